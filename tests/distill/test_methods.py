"""The short method types wire any pair from what the models say of themselves."""

import inspect
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from pairs import Plain, batch, plain, segmentor

from medseg_kd.distill import (
    CWD,
    KD,
    METHODS,
    ConfigurableDistiller,
    DistillLoss,
    ReviewKD,
    SingleTeacherDistill,
    build_distiller,
    method,
    on_logits,
)
from medseg_kd.errors import UserError
from medseg_kd.models import FCN, UNet
from medseg_kd.registry import MODELS

TERMS = {
    "KD": ["distill.loss_kd"],
    "DKD": ["distill.loss_dkd"],
    "DIST": ["distill.loss_dist"],
    "CWD": ["distill.loss_cwd"],
    "AT": [f"distill.loss_at_stage{stage}" for stage in range(4)],
    "ReviewKD": ["distill.loss_reviewkd"],
    "LSKD": ["distill.loss_lskd"],
    "MGD": ["distill.loss_mgd"],
    "CIRKD": ["distill.loss_cirkd"],
    "AttnFD": ["distill.loss_attnfd"],
    "IFVD": ["distill.loss_ifvd"],
    "BPKD": ["distill.loss_bpkd"],
}
CONNECTORS = {"ReviewKD": 4, "MGD": 1, "AttnFD": 4}


def distil(method: dict, student: dict, teacher: dict) -> SingleTeacherDistill:
    torch.manual_seed(0)
    return SingleTeacherDistill(student, MODELS.build(teacher), method)


@pytest.mark.parametrize("method", TERMS)
@pytest.mark.parametrize(("student", "teacher"), [(UNet, UNet), (FCN, UNet), (UNet, FCN)])
def test_a_step_of_every_method(method, student, teacher):
    algorithm = distil({"type": method}, segmentor(student), segmentor(teacher, width=6))
    losses = algorithm(*batch(), mode="loss")
    assert list(losses) == ["loss_ce", "aux1.loss_ce", *TERMS[method]]
    assert len(algorithm.distiller.connectors) == CONNECTORS.get(method, 0)
    distilled = [losses[name] for name in TERMS[method]]
    assert all(value.isfinite() and value > 0 for value in distilled)
    sum(distilled).backward()
    backbone = algorithm.student.network.backbone
    for module in (backbone.layer1, backbone.layer4, algorithm.distiller.connectors):
        assert all(parameter.grad.isfinite().all() for parameter in module.parameters())
    assert all(parameter.grad is None for parameter in algorithm.teacher.parameters())


@pytest.mark.parametrize("method", ["LSKD", "MGD", "CIRKD", "AttnFD", "IFVD", "BPKD"])
def test_bf16_is_near_float32(method):
    algorithm = distil({"type": method}, segmentor(UNet, dropout_ratio=0.0), segmentor(UNet, width=6))
    values = []
    for enabled in (False, True):
        torch.manual_seed(1)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            values.append(sum(algorithm(*batch(), mode="loss")[name] for name in TERMS[method]))
    assert all(value.dtype == torch.float32 for value in values)
    assert values[1].item() == pytest.approx(values[0].item(), rel=0.05)
    values[1].backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in algorithm.parameters())


def test_logits_are_compared_at_native_resolution():
    algorithm = distil({"type": "CWD"}, segmentor(UNet), segmentor(FCN, width=6))
    algorithm.distiller.clear = lambda: None
    algorithm(*batch(), mode="loss")
    student, teacher = (
        recorders.recorders["logits"].get()
        for recorders in (algorithm.distiller.student_recorders, algorithm.distiller.teacher_recorders)
    )
    assert student.shape == (2, 4, 8, 8) and teacher.shape == (2, 4, 4, 4)


def test_cwd_on_a_stage_widens_the_student():
    method = {"type": CWD, "stage": -1, "tau": 1, "loss_weight": 50}
    algorithm = distil(method, segmentor(UNet), segmentor(UNet, width=6))
    connector = algorithm.distiller.connectors["stage"]
    assert connector.conv.weight.shape == (48, 32, 1, 1)
    losses = algorithm(*batch(), mode="loss")
    losses["distill.loss_cwd"].backward()
    assert connector.conv.weight.grad.abs().sum() > 0
    assert algorithm.student.network.head.conv_seg.weight.grad is None


@pytest.mark.parametrize("method", ["CWD", "MGD", "CIRKD", "IFVD"])
def test_a_stage_is_chosen_by_its_index(method):
    algorithm = distil({"type": method, "stage": 1}, segmentor(UNet), segmentor(UNet, width=6))
    for recorders in (algorithm.distiller.student_recorders, algorithm.distiller.teacher_recorders):
        assert recorders.recorders["stage"].source == "network.backbone.layer2"
    with pytest.raises(UserError, match="stage is 4, but student and teacher share 4 stages"):
        distil({"type": method, "stage": 4}, segmentor(UNet), segmentor(UNet))


def test_prototypes_are_of_the_students_classes():
    distiller = distil({"type": "IFVD"}, segmentor(UNet), segmentor(UNet)).distiller
    assert distiller.distill_losses["loss_ifvd"].num_classes == 4


def test_stages_are_paired_from_the_deepest():
    student, short = (MODELS.build(segmentor(UNet)) for _ in range(2))
    short.network.feature_info = short.network.feature_info[1:]
    distiller = build_distiller({"type": "AT"}, student, short)
    recorders = [r.recorders for r in (distiller.student_recorders, distiller.teacher_recorders)]
    stages = [[recorder.source for recorder in group.values()] for group in recorders]
    assert stages[0] == stages[1] == [f"network.backbone.layer{depth}" for depth in (2, 3, 4)]


def test_a_network_without_feature_info():
    algorithm = distil({"type": "KD"}, plain(), segmentor(UNet))
    assert algorithm(*batch(), mode="loss")["distill.loss_kd"] > 0
    with pytest.raises(UserError, match=f"the student's network {Plain.__name__} has no feature_info"):
        distil({"type": "AT"}, plain(), segmentor(UNet))


def test_options_reach_the_loss():
    options = {"tau": 2, "alpha": 3, "beta": 5, "loss_weight": 7, "ignore_index": 9}
    loss = distil({"type": "DKD", **options}, plain(), plain()).distiller.distill_losses["loss_dkd"]
    assert {name: getattr(loss, name) for name in options} == options


@pytest.mark.parametrize("name", METHODS)
def test_a_method_and_its_loss_have_one_set_of_defaults(name):
    distiller = distil({"type": name}, segmentor(), segmentor()).distiller
    told = {key: parameter.default for key, parameter in inspect.signature(METHODS[name]).parameters.items()}
    for loss in distiller.distill_losses.values():
        its = {key: parameter.default for key, parameter in inspect.signature(type(loss)).parameters.items()}
        assert its.items() <= told.items() and {key: getattr(loss, key) for key in its} == its
    assert set(told) - set(its) <= {"student", "teacher", "stage", "mid_channel", "mask_ratio"}


def test_names_of_connectors_are_those_of_older_checkpoints():
    state = distil({"type": ReviewKD, "mid_channel": 8}, segmentor(), segmentor()).checkpoint_state()["connectors"]
    assert {key.split(".")[0] for key in state} == {f"stage{stage}" for stage in range(4)}
    assert "stage0.att_conv.0.weight" in state and not [key for key in state if key.startswith("stage3.att_conv")]


@pytest.mark.parametrize(
    ("distiller", "message"),
    [
        ({"type": "CWD", "tua": 2}, "model.distiller: CWD: .*'tua'. It takes: student, teacher, stage, tau, loss_we"),
        ({"type": "KDD"}, "model.distiller: there is no type 'KDD'; did you mean .*KD"),
        ({"tau": 2}, r"model.distiller is {'tau': 2}, expected dict\(type"),
        (None, r"model.distiller is None, expected dict\(type"),
    ],
)
def test_mistakes_are_told_with_their_place(distiller, message):
    with pytest.raises(UserError, match=message):
        distil(distiller, plain(), plain())


class Twice(DistillLoss):
    """The difference of the logits, so many times."""

    def __init__(self, times: float = 2.0, loss_weight: float = 1.0, ignore_index: int = 255) -> None:
        super().__init__(loss_weight, ignore_index)
        self.times = times

    def compute(self, student, teacher, label):
        return self.times * (student - teacher).abs().mean()


def declare(name: str) -> type:
    """A method of one's own, as a file or the cell of a notebook declares it."""

    class Mine(ConfigurableDistiller):
        def __init__(self, student, teacher, **options) -> None:
            super().__init__(student, teacher, **on_logits("loss_mine", {"type": Twice, **options}, student, teacher))

    Mine.__name__ = name
    return method(Twice)(Mine)


def test_the_decorator_alone_registers_a_method(monkeypatch):
    """Of a cell that runs again the last one; a method of the project keeps its name."""
    monkeypatch.setattr(MODELS, "_module_dict", dict(MODELS.module_dict))
    for name in ("Mine", "Heir"):
        monkeypatch.setitem(METHODS, name, None)
    first, again = declare("Mine"), declare("Mine")
    assert METHODS["Mine"] is MODELS.get("Mine") is again is not first
    algorithm = distil({"type": "Mine", "times": 3}, plain(), plain())
    assert algorithm.distiller.distill_losses["loss_mine"].times == 3
    assert algorithm(*batch(), mode="loss")["distill.loss_mine"] > 0
    inherited = method(Twice)(type("Heir", (KD,), {}))
    for kind, has in ((again, True), (KD, False), (inherited, False), (ConfigurableDistiller, False)):
        assert ("times" in inspect.signature(kind).parameters) is has
    with pytest.raises(KeyError, match="KD is already registered"):
        declare("KD")
    assert METHODS["KD"] is MODELS.get("KD") is KD


SEVENTH = '''"""A seventh method."""

from medseg_kd.distill.distiller import ConfigurableDistiller
from medseg_kd.distill.methods.base import method, on_logits
from medseg_kd.distill.methods.kd import KDLoss


@method(KDLoss)
class Seventh(ConfigurableDistiller):
    """KD under another name."""

    def __init__(self, student, teacher, **options) -> None:
        super().__init__(student, teacher, **on_logits("loss_7", {"type": KDLoss, **options}, student, teacher))
'''
USE = """
import sys, torch
from medseg_kd.distill import METHODS
names = "AT AttnFD BPKD CIRKD CWD DIST DKD IFVD KD LSKD MGD ReviewKD Seventh"
assert sorted(METHODS, key=str.lower) == names.split(), METHODS
from medseg_kd.cli.distill import main
from medseg_kd.configuration import read_config
from medseg_kd.registry import MODELS
teacher, student = "configs/demo/unet_r18_phantom.py", "configs/demo/unet_r18_half_phantom.py"
main(["--method", "seventh", "--teacher", teacher, "--student", student, "--out", "pair.py"])
cfg = read_config("pair.py")
model = MODELS.build({**cfg.model, "teacher_ckpt": None}).train()
losses = model(torch.rand(2, 1, 64, 64), torch.zeros(2, 64, 64, dtype=torch.uint8), mode="loss")
print(type(model.distiller).__module__, losses["distill.loss_7"] > 0, len(open("pair.py").readlines()))
"""


def test_a_file_in_the_folder_of_methods_is_all_that_a_new_one_needs(tmp_path):
    """In a copy of the package: registered, listed, and written into a pair, with no line elsewhere."""
    root = Path(__file__).parents[2]
    for folder in ("medseg_kd", "configs"):
        shutil.copytree(root / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "medseg_kd/distill/methods/seventh.py").write_text(SEVENTH)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", USE],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "medseg_kd.distill.methods.seventh tensor(True) 11"
