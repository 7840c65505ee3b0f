"""The same curves in TensorBoard, W&B and MLflow: names, steps, what a resumed run adds, and what stays at home."""

import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mmengine.visualization
import pytest
from mmengine.config import Config

from medseg_kd.configuration import resume
from medseg_kd.engine import Runner, tracking
from medseg_kd.errors import UserError
from tests.engine.tiny import tiny_config

LOSS, ORGAN = "train/loss", "val/Dice_liver"
SECRET = "5ecret-of-the-environment"


def _tracked(phantom: Path, folder: Path, max_iters: int, *backends: Any) -> Config:
    cfg = tiny_config(phantom, folder, max_iters)
    cfg.train_cfg.val_interval = 2
    cfg.visualizer = dict(type="SegLocalVisualizer", vis_backends=[dict(type=each) for each in backends])
    return cfg


def _tensorboard(folder: Path) -> dict[str, list[int]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    assert {"train/lr", "val/mDice"} <= {*events.Tags()["scalars"]} and "val_case0005" in events.Tags()["images"]
    return {name: [event.step for event in events.Scalars(name)] for name in (LOSS, ORGAN)}


def _mlflow(folder: Path) -> dict[str, list[int]]:
    from mlflow import MlflowClient

    client, run = MlflowClient((folder / "mlruns").as_uri()), (folder / "mlflow_run_id.txt").read_text()
    found = client.get_run(run)
    assert {"train/lr", "val/mDice"} <= found.data.metrics.keys() and found.info.status == "FINISHED"
    assert found.data.tags == {"mlflow.runName": folder.name}  # and no user, script or repository
    assert "config.py" in [each.path for each in client.list_artifacts(run)]
    return {name: [each.step for each in client.get_metric_history(run, name)] for name in (LOSS, ORGAN)}


def _wandb(folder: Path) -> dict[str, list[int]]:
    steps: dict[str, list[int]] = {LOSS: [], ORGAN: []}
    for file in sorted(folder.glob("wandb/offline-run-*/run-*.wandb")):
        for record in _records(file.read_bytes()):
            if record.WhichOneof("record_type") == "run":
                assert record.run.run_id == (folder / "wandb_run_id.txt").read_text() and not record.run.host
            logged = {item.key or "/".join(item.nested_key) for item in record.history.item}
            for name in steps.keys() & logged:
                steps[name].append(record.history.step.num)
    assert not [*folder.rglob("wandb-metadata.json")] + [*folder.rglob("requirements.txt")]
    return steps


def _records(data: bytes) -> Iterator[Any]:
    """Records of an offline run, which lie in blocks of 32 KiB as in LevelDB's log."""
    from wandb.proto.wandb_internal_pb2 import Record

    place, parts = 7, b""
    while place + 7 <= len(data):
        if (left := -place % 32768) and left < 7:
            place += left
        size, kind = struct.unpack("<HB", data[place + 4 : place + 7])
        parts += data[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in (1, 4):  # the whole of a record, or its last part
            yield Record.FromString(parts)
            parts = b""


@pytest.fixture
def at_home(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An environment that would send everything to a server."""
    for name in ("WANDB_API_KEY", "MLFLOW_TRACKING_TOKEN", "SECRET"):
        monkeypatch.setenv(name, SECRET)
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    yield
    import wandb

    wandb.teardown()


def test_curves_of_a_run_that_is_resumed(phantom: Path, tmp_path: Path, at_home: None) -> None:
    for package in ("tensorboard", "wandb", "mlflow"):
        pytest.importorskip(package)
    backends = ("TensorboardVisBackend", "WandbVisBackend", mmengine.visualization.MLflowVisBackend)
    for max_iters in (3, 4):
        cfg = _tracked(phantom, tmp_path, max_iters, *backends)
        cfg.param_scheduler[0].end = 4
        cfg.custom_hooks = [dict(type="SegVisualizationHook", draw=True, interval=2)]
        if max_iters == 4:  # from iteration 2: the third is trained again
            resume(cfg)
            cfg.load_from = str(tmp_path / "iter_2.pth")
        Runner.from_cfg(cfg).train()
    cfg.update(load_from=str(tmp_path / "iter_4.pth"), resume=False)
    cfg.experiment_name += "_test"
    Runner.from_cfg(cfg).test()  # writes no curve
    # TensorBoard hides what was trained again, the others keep both.
    assert _tensorboard(tmp_path) == {LOSS: [1, 2, 3, 4], ORGAN: [2, 4]}
    assert _mlflow(tmp_path) == _wandb(tmp_path) == {LOSS: [1, 2, 3, 3, 4], ORGAN: [2, 3, 4]}
    assert len([*tmp_path.glob("*/vis_data/scalars.json")]) == 2  # as without them
    assert not [file for file in tmp_path.rglob("*") if file.is_file() and SECRET.encode() in file.read_bytes()]
    assert os.environ["WANDB_ERROR_REPORTING"] == "false"


def test_mlflow_reports_no_usage_whoever_imports_it() -> None:
    """MONAI does, where it is installed; the first import decides."""
    told = "import os, medseg_kd; print(os.environ['MLFLOW_DISABLE_TELEMETRY'])"
    environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_DISABLE_TELEMETRY"}
    for given, expected in ({}, "true"), ({"MLFLOW_DISABLE_TELEMETRY": "false"}, "false"):
        done = subprocess.run(
            [sys.executable, "-c", told], env={**environment, **given}, capture_output=True, text=True
        )
        assert done.stdout.strip() == expected, done.stderr


@pytest.mark.parametrize("package", ["tensorboard", "wandb", "mlflow"])
def test_a_package_that_is_not_installed(phantom: Path, tmp_path: Path, monkeypatch, package: str) -> None:
    monkeypatch.setattr(tracking, "find_spec", lambda name: None)
    kind = {"tensorboard": "Tensorboard", "wandb": "Wandb", "mlflow": "MLflow"}[package] + "VisBackend"
    with pytest.raises(UserError, match=f"{kind} needs a package that is not installed: pip install {package}, or"):
        Runner.from_cfg(_tracked(phantom, tmp_path / "run", 2, kind))
    assert not (tmp_path / "run").exists()


def test_a_run_that_the_store_has_lost(tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    (tmp_path / "mlflow_run_id.txt").write_text("0" * 32)
    backend = tracking.MLflowVisBackend(str(tmp_path))
    backend.add_config(Config(dict(work_dir=str(tmp_path), resume=True)))
    backend.is_training = True
    with pytest.raises(UserError, match="MLflow has no run 0+ .* Delete mlflow_run_id.txt"):
        backend.add_scalar("x", 1.0, 3)
