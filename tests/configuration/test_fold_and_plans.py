"""A fold and nnU-Net's plans, as ``--fold`` and ``--from-plans`` name them."""

from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config

from medseg_kd.configuration import choose_checkpoint, load_run
from medseg_kd.datasets import CTNormalization, ZScore
from medseg_kd.errors import UserError
from medseg_kd.registry import DATASETS
from tests.nnunet_results import plans_json, write_json
from tests.raw_downloads import write_nnunet

CONFIG = "configs/unet/unet_r18v1c_d8_40k_folder.py"
PAIR = "configs/distill/cwd/cwd_unet_r50_unet_r18_40k_folder.py"
LOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A raw data set of CT, with plans where nnU-Net puts them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("nnUNet_preprocessed", raising=False)
    _write_plans(tmp_path / "nnUNet_preprocessed/Dataset017_Heart/nnUNetPlans.json")
    return write_nnunet(tmp_path / "nnUNet_raw/Dataset017_Heart", "abcdef")


def _write_plans(path: Path, *schemes: tuple[str, bool], **changes: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_json(path, {**plans_json(*schemes), "dataset_name": "Dataset017_Heart", **changes})


def _load(data: Path, config: str = CONFIG, options: Any = None, **chosen: Any) -> Config:
    return load_run(config, options, str(data), **chosen)


def _cases(cfg: Config) -> list[str]:
    return ["".join(DATASETS.build(cfg[name].dataset).case_names) for name in LOADERS]


def test_a_fold_is_trained_validated_and_tested(data: Path):
    assert _cases(_load(data, fold=0, plans="")) == ["cdef", "ab", "ab"]
    cfg = _load(data, fold=1, plans="")
    assert _cases(cfg) == ["abcd", "ef", "ef"]
    assert cfg.work_dir == "work_dirs/unet_r18v1c_d8_40k_folder/fold_1"
    assert _load(data, fold=1, plans="", work_dir="mine").work_dir == "mine"
    cfg = _load(data, fold="all", plans="")
    assert [DATASETS.build(cfg[name].dataset).case_names for name in LOADERS[:2]] == [[*"abcdef"]] * 2


def test_a_student_learns_from_the_teacher_of_its_fold(data: Path):
    assert _load(data, PAIR, fold=1).model.teacher_ckpt == "work_dirs/unet_r50_s4_d8_40k_folder/fold_1"
    named = {"model.teacher_ckpt": "work_dirs/mine"}
    assert _load(data, PAIR, named, fold=1).model.teacher_ckpt == "work_dirs/mine"
    assert _load(data, PAIR).model.teacher_ckpt == "work_dirs/unet_r50_s4_d8_40k_folder"
    from medseg_kd.models.checkpoint import resolve_checkpoint

    with pytest.raises(UserError, match=r"fold_1 is not there. (.|\n)*unet_r50_s4_d8_40k_folder.py> --fold 1"):
        resolve_checkpoint("work_dirs/unet_r50_s4_d8_40k_folder/fold_1")


def test_a_checkpoint_of_another_fold_is_told(data: Path):
    for fold in (0, 1):
        path = Path(f"work_dirs/unet_r18v1c_d8_40k_folder/fold_{fold}/iter_2.pth")
        path.parent.mkdir(parents=True)
        path.touch()
    cfg = _load(data, fold=1, plans="")
    assert choose_checkpoint(cfg, str(path)) == (path, "")
    other = str(path.parents[1] / "fold_0/iter_2.pth")
    assert "is of fold_0, but fold 1 is tested" in choose_checkpoint(cfg, other)[1]


def test_folds_that_are_none(data: Path, phantom: Path):
    for fold, message in ((2, "fold is 2, but the folds are 0, 1"), ("x", "fold is 'x', expected 0, 1 and so on")):
        with pytest.raises(UserError, match=message):
            _cases(_load(data, fold=fold, plans=""))
    with pytest.raises(UserError, match="--fold 0: .* is in the format transunet, which has no folds"):
        _load(phantom, fold=0)


def test_plans_give_rules_and_sizes(data: Path, capsys: pytest.CaptureFixture[str]):
    cfg = _load(data, plans="")
    said = capsys.readouterr().out
    assert "nnUNet_preprocessed/Dataset017_Heart/nnUNetPlans.json: CT (CTNormalization(low=-150.0" in said
    assert "slices are resized to (32, 24), its patches" in said
    for name in LOADERS:
        (channel,) = DATASETS.build(cfg[name].dataset).spec.channels
        assert (channel.name, channel.intensity) == ("CT", CTNormalization(-150, 250, 60, 80))
    assert cfg.model.data_preprocessor.size == (32, 24)
    assert _load(data, PAIR, plans="").model.architecture.data_preprocessor.size == (32, 24)


def test_plans_lie_beside_the_data_or_where_they_are_named(data: Path, monkeypatch: pytest.MonkeyPatch):
    usual = Path("nnUNet_preprocessed/Dataset017_Heart/nnUNetPlans.json")
    moved = usual.rename("mine.json")
    with pytest.raises(UserError, match="no nnUNetPlans.json of .*Heart at .*--from-plans FILE"):
        _load(data, plans="")
    assert _load(data, plans=str(moved)).model.data_preprocessor.size == (32, 24)
    monkeypatch.setenv("nnUNet_preprocessed", "elsewhere")
    _write_plans(Path("elsewhere/Dataset017_Heart/nnUNetPlans.json"), ("ZScoreNormalization", True))
    (channel,) = DATASETS.build(_load(data, plans="").train_dataloader.dataset).spec.channels
    assert channel.intensity == ZScore(nonzero=True)


def test_plans_of_other_data_are_refused(data: Path, phantom: Path):
    path = _write_plans(Path("other.json"), dataset_name="Dataset018_Other")
    with pytest.raises(UserError, match="other.json holds the plans of Dataset018_Other, but the data are .*017_Heart"):
        _load(data, plans=str(path))
    path = _write_plans(Path("two.json"), ("CTNormalization", False), ("ZScoreNormalization", False))
    with pytest.raises(UserError, match=r"two.json: .*: rules for 2 channel\(s\), but the data have 1 \(CT\)"):
        _load(data, plans=str(path))
    with pytest.raises(UserError, match="--from-plans: .* holds prepared slices"):
        _load(phantom, plans=str(path))
    cfg = _load(data, plans=str(_write_plans(Path("turned.json"), transpose_forward=[1, 0, 2])))
    assert "size" not in cfg.model.data_preprocessor


def test_ct_without_a_window_is_told_of_the_plans(data: Path):
    with pytest.raises(UserError, match="names the channel CT: .*Window.* or for nnU-Net's plans, with --from-plans"):
        _cases(_load(data))
