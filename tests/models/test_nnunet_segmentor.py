"""Results of nnU-Net as a segmentor: what is read, averaged, refused, and how it sees the slices of others."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medseg_kd.datasets import Channel, CTNormalization, NoNormalization, Window
from medseg_kd.datasets.nnunet_plans import rescaling
from medseg_kd.errors import UserError
from medseg_kd.models.nnunet_folds import View
from medseg_kd.models.nnunet_segmentor import NnUNetSegmentor
from medseg_kd.registry import MODELS
from tests.nnunet_results import dataset_json, write_json, write_results

CT_RULE = CTNormalization(-150, 250, 60, 80)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three folds, and one on all cases."""
    return write_results(tmp_path_factory.mktemp("nnUNetTrainer__nnUNetPlans__2d") / "r", folds=(0, 1, 3, "all"))


def logits(results: Path, x: torch.Tensor, folds: Any = None) -> torch.Tensor:
    with torch.no_grad():
        return NnUNetSegmentor(str(results), folds)(x)


def test_folds_are_averaged(results: Path) -> None:
    x = torch.rand(2, 1, 21, 30)
    each = [logits(results, x, (fold,)) for fold in (0, 1, 3)]
    assert each[0].shape == (2, 3, 21, 30)
    torch.testing.assert_close(logits(results, x), (each[0] + each[1] + each[2]) / 3)
    torch.testing.assert_close(logits(results, x, (0, 3)), (each[0] + each[2]) / 2)
    assert not torch.allclose(logits(results, x, "all"), each[0])
    model = MODELS.build({"type": "NnUNetTeacher", "results": str(results), "folds": 1})
    assert (model.num_classes, model.in_channels, model.weights_source) == (3, 1, f"{results}, fold_1")
    assert model.mirror_axes == (0, 1)
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_folds_that_are_not_there_are_told(results: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no fold_2, no fold_5 with checkpoint_final.pth; .* one: 0, 1, 3, all"):
        NnUNetSegmentor(str(results), (1, 2, 5))
    with pytest.raises(UserError, match="no fold with checkpoint_latest.pth"):
        NnUNetSegmentor(str(results), checkpoint="checkpoint_latest.pth")
    with pytest.raises(UserError, match=r"holds no plans.json and no dataset.json: expected the results"):
        NnUNetSegmentor(str(tmp_path))
    both = write_results(tmp_path / "r", folds=(0,))
    write_results(tmp_path / "s", folds=(1,), trainer_name="nnUNetTrainerBN")
    (tmp_path / "s/fold_1").rename(both / "fold_1")
    with pytest.raises(UserError, match="of several trainings: fold_0 nnUNetTrainer 2d, fold_1 nnUNetTrainerBN 2d"):
        NnUNetSegmentor(str(both))


class Hostile:
    """Unpickled by others, it would make a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("place", ["network_weights", "logging", "optimizer_state"])
def test_a_hostile_checkpoint_runs_nothing(place: str, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    results = write_results(tmp_path / "r", **{place: Hostile(marker)})
    with pytest.raises(UserError, match="could run code hidden in it, so it was not opened"):
        NnUNetSegmentor(str(results))
    assert not marker.exists()


def test_what_does_not_belong_together_is_refused(tmp_path: Path) -> None:
    results = write_results(tmp_path / "r")
    write_json(results / "dataset.json", dataset_json({"background": 0, "liver": 1}))
    with pytest.raises(UserError, match=r"fold_0/checkpoint_final.pth does not fit NnUNet: [^\n]*\n  4 of another"):
        NnUNetSegmentor(str(results))
    write_json(results / "dataset.json", dataset_json(channels=("T1", "T2")))
    with pytest.raises(UserError, match=r"plans.json scales 1 channel\(s\), dataset.json names T1, T2"):
        NnUNetSegmentor(str(results))
    path = write_results(tmp_path / "s") / "fold_0/checkpoint_final.pth"
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(UserError, match="damaged or only partly copied"):
        NnUNetSegmentor(str(tmp_path / "s"))
    torch.save({"state_dict": {"a": torch.zeros(1)}}, path)
    with pytest.raises(UserError, match="is no checkpoint of nnU-Net v2"):
        NnUNetSegmentor(str(tmp_path / "s"))


def test_it_is_not_trained(results: Path) -> None:
    with pytest.raises(UserError, match="network=dict\\(type='NnUNet', plans="):
        NnUNetSegmentor(str(results), 0)(torch.rand(1, 1, 8, 8), torch.zeros(1, 8, 8), mode="loss")


def test_regions_are_decoded_in_their_order(tmp_path: Path) -> None:
    labels = {"background": 0, "whole": [1, 2], "core": [2]}
    results = write_results(tmp_path, dataset=dataset_json(labels, regions_class_order=[1, 2]), outputs=2)
    model = NnUNetSegmentor(str(results))
    assert model.regions == (("whole", (1, 2), 1), ("core", (2,), 2))
    assert (model.num_classes, model.num_outputs, model.overlapping) == (3, 2, True)
    given = torch.tensor([[-1.0, 1, 1, -1], [-1, -1, 1, 1]])[None, :, None]
    assert model.decode(given).tolist() == [[[0, 1, 2, 2]]]


VALUES = np.random.default_rng(0).normal(50, 200, (2, 1, 24, 32)).astype(np.float32)


@pytest.mark.parametrize(
    "rule", [Window(-150, 250), Window(-1000, 1000), NoNormalization(), CTNormalization(-160, 300, 1, 2)]
)
def test_intensities_are_those_of_the_plans(rule: Any, results: Path) -> None:
    model = NnUNetSegmentor(str(results), 0)
    wanted = model(torch.from_numpy(CT_RULE(VALUES)))
    model.network.view = View((rescaling(Channel("CT", rule), CT_RULE),))
    given = torch.from_numpy(rule(VALUES))
    torch.testing.assert_close(model.network.view.of(given), torch.from_numpy(CT_RULE(VALUES)), atol=1e-4, rtol=0)
    torch.testing.assert_close(model(given), wanted, atol=1e-3, rtol=1e-3)


def test_slices_are_seen_as_the_network_was_trained(results: Path) -> None:
    model = NnUNetSegmentor(str(results), 0)
    plain = model.network.folds[0]
    x = torch.rand(2, 1, 24, 32)
    for view, seen in (
        (View(flipped=(-2,)), x.flip(-2)),
        (View(transposed=True, flipped=(-1,)), x.transpose(-2, -1).flip(-1)),
    ):
        model.network.view = view
        assert torch.equal(view.of(x), seen)
        assert torch.equal(view.back(seen), x)
        with torch.no_grad():
            torch.testing.assert_close(model(x), view.back(plain(seen)))
    model.network.view = View(zoom=(1.5, 0.5))
    assert model.network.view.of(x).shape == (2, 1, 36, 16)
    assert model(x).shape == (2, 3, 24, 32)


def test_stages_lie_as_the_slices(results: Path) -> None:
    """What is recorded of a stage can be compared place by place with a student's."""
    model = NnUNetSegmentor(str(results), 0)
    assert [stage["module"] for stage in model.feature_info] == [f"network.stages.{index}" for index in range(3)]
    model.network.view = View(flipped=(-2, -1))
    recorded: list[torch.Tensor] = []
    model.get_submodule(model.feature_info[1]["module"]).register_forward_hook(lambda *call: recorded.append(call[2]))
    x = torch.rand(1, 1, 24, 32)
    with torch.no_grad():
        model(x)
        own = model.network.folds[0].unet.encoder(x.flip((-2, -1)))[1]
    torch.testing.assert_close(recorded[0], own.flip((-2, -1)))
    with pytest.raises(UserError, match=r"logits of several folds are averaged .*fold_0, fold_1, fold_3.*folds=\(0,\)"):
        NnUNetSegmentor(str(results)).feature_info  # noqa: B018
