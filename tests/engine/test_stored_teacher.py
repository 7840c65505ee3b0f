"""A stored teacher in whole runs: from predictions to the student's losses."""

import copy
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config

from medseg_kd.configuration import load_run
from medseg_kd.datasets.npz import read_npz
from medseg_kd.engine import Runner
from medseg_kd.errors import UserError
from medseg_kd.inference.export import predict_files
from medseg_kd.inference.loading import load_predictor
from medseg_kd.registry import MODELS
from tests.engine.test_runner import _equal
from tests.engine.tiny import TinyNet, tiny_config
from tests.engine.two_processes import in_two_processes


@MODELS.register_module()
class FullNet(TinyNet):
    """The tiny network at full resolution, where a live teacher's logits are compared as stored ones are."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.interpolate(super().forward(x), scale_factor=2, mode="bilinear")


@pytest.fixture(scope="module")
def teacher(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of a teacher."""
    cfg = tiny_config(phantom, tmp_path_factory.mktemp("teacher") / "run", max_iters=8)
    cfg.model.network = dict(type="FullNet")
    Runner.from_cfg(cfg).train()
    return Path(cfg.work_dir)


@pytest.fixture(scope="module")
def stored(teacher: Path, phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``predict.py --probabilities`` makes of the training slices with it."""
    out = tmp_path_factory.mktemp("stored")
    assert not predict_files(load_predictor(teacher, "cpu"), [phantom / "train_npz"], out, probabilities=True)
    return out


def distilled(phantom: Path, folder: Path, teacher: Any, max_iters: int = 2, **changes: Any) -> Config:
    """The config of a student of a run (live) or of what is stored."""
    cfg = tiny_config(phantom, folder, max_iters)
    cfg.model.network = dict(type="FullNet")
    is_stored = any(teacher.glob("*.npz"))
    given = (
        dict(teacher=dict(type="StoredTeacher", folder=str(teacher))) if is_stored else dict(teacher_ckpt=str(teacher))
    )
    models = dict(architecture=cfg.model, teacher=copy.deepcopy(cfg.model))
    cfg.model = dict(type="SingleTeacherDistill", **{**models, **given}, distiller=dict(type="KD", tau=2))
    cfg.merge_from_dict(changes)
    return cfg


def losses(folder: Path, iteration: int = 2, term: str = "distill.loss_kd") -> list[float]:
    log = torch.load(folder / f"iter_{iteration}.pth", weights_only=True)["message_hub"]["log_scalars"]
    return log[f"train/{term}"]["log"]


STILL = {"model.architecture.data_preprocessor.augmentation": None}


def test_it_teaches_what_the_network_would(phantom: Path, teacher: Path, stored: Path, tmp_path: Path):
    for name, of in (("live", teacher), ("stored", stored)):
        Runner.from_cfg(distilled(phantom, tmp_path / name, of, **STILL)).train()
    live, own = (losses(tmp_path / name) for name in ("live", "stored"))
    assert min(live) > 1e-3 and own == pytest.approx(live, rel=1e-3)


@pytest.fixture(scope="module")
def whole(phantom: Path, stored: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student's run of four iterations, from the cache and augmented."""
    folder = tmp_path_factory.mktemp("student") / "run"
    Runner.from_cfg(distilled(phantom, folder, stored, 4)).train()
    return folder


@pytest.mark.parametrize(("workers", "cache"), [(0, None), (2, None)])
def test_workers_and_cache_change_nothing(
    whole: Path, phantom: Path, stored: Path, tmp_path: Path, workers: int, cache: str | None
):
    changes = {"train_dataloader.num_workers": workers, "train_dataloader.dataset.cache": cache}
    Runner.from_cfg(distilled(phantom, tmp_path, stored, **changes)).train()
    assert losses(tmp_path) == losses(whole)
    assert losses(tmp_path, term="loss") == losses(whole, term="loss")


def test_a_resumed_run_equals_the_run_that_was_never_stopped(whole: Path, phantom: Path, stored: Path, tmp_path: Path):
    shutil.copy(whole / "iter_2.pth", tmp_path)
    cfg = distilled(phantom, tmp_path, stored, 4)
    cfg.update(resume=True, load_from=str(tmp_path / "iter_2.pth"))
    Runner.from_cfg(cfg).train()
    one, other = (torch.load(folder / "iter_4.pth", weights_only=True) for folder in (whole, tmp_path))
    assert _equal(one["state_dict"], other["state_dict"]) and _equal(one["optimizer"], other["optimizer"])


def test_the_config_of_the_run_folder_trains_again(whole: Path, tmp_path: Path):
    cfg = load_run(next(whole.glob("*.py")), work_dir=str(tmp_path), options={"train_cfg.max_iters": 2})
    Runner.from_cfg(cfg).train()
    assert losses(tmp_path) == losses(whole)


def test_a_test_needs_no_folder(whole: Path, phantom: Path, tmp_path: Path):
    cfg = distilled(phantom, tmp_path, whole)
    cfg.model.teacher = dict(type="StoredTeacher", folder=str(tmp_path / "gone"))
    cfg.update(load_from=str(whole / "iter_4.pth"))
    cfg.model.pop("teacher_ckpt")
    Runner.from_cfg(cfg).test()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"model.teacher_ckpt": "work_dirs/x"}, "model.teacher_ckpt is work_dirs/x, but a StoredTeacher has none"),
        ({"train_dataloader.dataset.soft_labels": "other"}, "soft_labels is other, but model.teacher.folder is"),
        ({"model.teacher_dtype": "bf16"}, "model.teacher_dtype: the teacher is a StoredTeacher"),
        ({"model.distiller.type": "AT", "model.distiller.tau": None}, "probabilities and no features"),
        ({"model.teacher.folder": "none"}, "there is no folder none"),
    ],
)
def test_what_makes_no_sense_is_refused(
    phantom: Path, stored: Path, tmp_path: Path, changes: dict[str, Any], told: str
):
    cfg = distilled(phantom, tmp_path, stored, **changes)
    if cfg.model.distiller.tau is None:
        cfg.model.distiller.pop("tau")
    with pytest.raises(UserError, match=told):
        Runner.from_cfg(cfg).train()


def test_soft_labels_without_a_stored_teacher_are_refused(phantom: Path, teacher: Path, tmp_path: Path):
    cfg = distilled(phantom, tmp_path, teacher)
    cfg.train_dataloader.dataset.soft_labels = "folder"
    with pytest.raises(UserError, match="no teacher takes it"):
        Runner.from_cfg(cfg)


def test_predicted_slices_of_another_size_are_refused(phantom: Path, stored: Path, tmp_path: Path):
    other = Path(shutil.copytree(stored, tmp_path / "stored"))
    path = next(other.glob("*_slice002.npz"))
    arrays = read_npz(path, ["probabilities"], texts=["names"])
    np.savez(path, **{**arrays, "probabilities": arrays["probabilities"][:, :-1]})
    with pytest.raises(UserError, match=r"_slice002.npz: probabilities of \(1, 63, 64\), but training case"):
        Runner.from_cfg(distilled(phantom, tmp_path / "run", other)).train()


def _train_in_processes(phantom: Path, folder: Path, stored: Path) -> list[float]:
    cfg = distilled(phantom, folder, stored, 1, **{**STILL, "train_dataloader.batch_size": 2})
    cfg.launcher = "pytorch"
    runner = Runner.from_cfg(cfg)
    runner.train()
    return [float(value) for value in runner.message_hub.get_scalar("train/distill.loss_kd").data[0]]


def test_two_processes_learn_from_the_slices_that_they_have(phantom: Path, stored: Path, tmp_path: Path):
    """Their mean is that of one process with the slices of both, but for norms and dropout, which each has alone."""
    both = in_two_processes(_train_in_processes, phantom, tmp_path / "two", stored)
    cfg = distilled(phantom, tmp_path / "one", stored, 1, **{**STILL, "train_dataloader.batch_size": 4})
    Runner.from_cfg(cfg).train()
    assert sum(each[0] for each in both) / 2 == pytest.approx(losses(tmp_path / "one", 1)[0], rel=1e-2)
