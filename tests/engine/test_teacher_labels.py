"""Whole runs whose teacher labels what has no label."""

import json
from pathlib import Path

import pytest
from mmengine.config import Config

from medseg_kd.engine import Runner
from medseg_kd.errors import UserError
from tests.engine.test_stored_teacher import distilled
from tests.engine.tiny import tiny_config

LABELLED = ["case0001", "case0002"]
SOME = {"train_dataloader.dataset.labelled": LABELLED}


@pytest.fixture(scope="module")
def teacher(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of a teacher."""
    cfg = tiny_config(phantom, tmp_path_factory.mktemp("teacher") / "run", max_iters=2)
    cfg.model.network = dict(type="FullNet")
    Runner.from_cfg(cfg).train()
    return Path(cfg.work_dir)


def test_cases_without_a_label_are_trained_on_where_the_teacher_labels_them(phantom, tmp_path, teacher) -> None:
    without = Runner.from_cfg(distilled(phantom, tmp_path / "without", teacher, **SOME))
    assert without.build_train_loop(without._train_loop).dataloader.dataset.case_names == LABELLED
    cfg = distilled(phantom, tmp_path / "with", teacher, **SOME, **{"model.teacher_labels": True})
    runner = Runner.from_cfg(cfg)
    runner.train()
    dataset = runner.train_dataloader.dataset
    assert dataset.case_names[:2] == LABELLED and dataset.unlabelled == dataset.case_names[2:]
    (log,) = Path(cfg.work_dir).glob("*/*.log")
    told = f"{len(dataset.unlabelled)} of {len(dataset.case_names)} cases have no label: the teacher gives them one"
    assert told in log.read_text(encoding="utf-8")
    # The config that is written gives the same run again.
    (written,) = Path(cfg.work_dir).glob("*/vis_data/config.py")
    again = Config.fromfile(written)
    again.work_dir = str(tmp_path / "again")
    again.experiment_name = "again"
    Runner.from_cfg(again).train()
    scalars = [next(Path(each.work_dir).glob("*/vis_data/scalars.json")) for each in (cfg, again)]
    first, second = ([json.loads(line) for line in file.read_text().splitlines()] for file in scalars)
    assert [line.get("loss") for line in first] == [line.get("loss") for line in second]


def test_nothing_labels_cases_without_a_label(phantom, tmp_path, teacher) -> None:
    wanted = {"train_dataloader.dataset.with_unlabelled": True}
    for cfg in (
        tiny_config(phantom, tmp_path / "plain", **wanted),
        distilled(phantom, tmp_path, teacher, **SOME, **wanted),
    ):
        with pytest.raises(UserError, match=r"with_unlabelled is set, but nothing labels .*model.teacher_labels=True"):
            Runner.from_cfg(cfg).train()
