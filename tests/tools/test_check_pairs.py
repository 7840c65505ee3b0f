"""``tools/dev/check_pairs.py``: each network and each method at least once."""

import pytest
import torch
from torch import nn

import check_pairs
from medseg_kd.distill import CWDLoss
from medseg_kd.errors import UserError
from model_table import all_configs

NETWORKS = all_configs()
METHODS = ("KD", "AT", "DKD", "DIST", "CWD", "ReviewKD")
LATER = ("LSKD", "MGD", "CIRKD", "AttnFD", "IFVD", "BPKD")
FCN = "configs/fcn/fcn_r18_d8_40k_synapse.py"


@pytest.mark.parametrize("turn", range(len(NETWORKS)))
def test_a_subset_of_all_pairs(turn):
    """Each network is teacher once and student once; each method comes at least once."""
    teacher, student = NETWORKS[turn], NETWORKS[(turn + 4) % len(NETWORKS)]
    for methods in (METHODS, LATER):
        assert check_pairs.check_pair(teacher, student, methods[turn % len(methods)]) > 0


def test_a_count_of_those_that_work(capsys):
    check_pairs.main(["--configs", FCN, "--methods", "cwd", "--size", "32"])
    assert "1/1 combinations work" in capsys.readouterr().out


def not_finite(self, student, teacher, label=None):
    return student.sum() * torch.nan


def cut_off(self, student, teacher, label=None):
    return nn.functional.mse_loss(student.detach(), teacher) * torch.ones((), requires_grad=True)


@pytest.mark.parametrize(
    ("forward", "message"), [(not_finite, "losses are not finite"), (cut_off, "other parameters than feed the taps")]
)
def test_a_pair_that_does_not_work(forward, message, monkeypatch, capsys):
    monkeypatch.setattr(CWDLoss, "forward", forward)
    with pytest.raises(UserError, match=message):
        check_pairs.main(["--configs", FCN, "--methods", "cwd", "--size", "32"])
    assert "0/1 combinations work" in capsys.readouterr().out
