"""Shared memory and the first item, before loading processes start."""

import os
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest
from mmengine.dataset import DefaultSampler
from torch.utils.data import DataLoader

from medseg_kd.datasets import CaseDataset, SeededSampler, SliceDataset
from medseg_kd.engine import Runner, loading
from medseg_kd.engine.loading import check_shared_memory, first_batch_bytes, shared_bytes
from medseg_kd.errors import UserError
from tests.cli.commands import ROOT, SHORT
from tests.engine.tiny import tiny_config

SLICE = 64 * 64 * 5
Usage = namedtuple("Usage", "free")


def test_bytes_of_batches(phantom: Path) -> None:
    slices, cases = SliceDataset(str(phantom)), CaseDataset(str(phantom))
    train = DataLoader(slices, 2, sampler=SeededSampler(slices, seed=0), num_workers=4, prefetch_factor=3)
    test = DataLoader(cases, 1, sampler=DefaultSampler(cases), num_workers=4)
    assert (first_batch_bytes(train), first_batch_bytes(test)) == (2 * SLICE, 4 * SLICE)
    assert shared_bytes(train, 10) == (4 * 3 + 1) * 10
    assert shared_bytes(test, 10) == (2 + 1) * 10, "there are two cases only"
    assert shared_bytes(DataLoader(slices, 2), 10) == 0


def test_too_little_shared_memory_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(loading, "_SHARED", tmp_path)
    monkeypatch.setattr(loading.shutil, "disk_usage", lambda path: Usage(1 << 24))
    monkeypatch.setattr(sys, "platform", "linux")
    check_shared_memory(1 << 24)
    with pytest.raises(UserError, match=r"fill 64 MB .* but 16 MB are free .*--shm-size=2g .*set num_workers=0"):
        check_shared_memory(1 << 26)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(UserError, match="fill 32 MB"):
        check_shared_memory(1 << 24)
    monkeypatch.setattr(sys, "platform", "darwin")
    check_shared_memory(1 << 26)


@pytest.mark.parametrize("workers", [0, 1])
def test_both_loaders_of_a_training_count(
    phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    cfg = tiny_config(phantom, tmp_path)
    for name in ("train_dataloader", "val_dataloader"):
        cfg[name].update(num_workers=workers)
    cfg.train_dataloader.dataset.cache = None
    needed: list[int] = []
    monkeypatch.setattr("medseg_kd.engine.data_runner.check_shared_memory", needed.append)
    runner = Runner.from_cfg(cfg)
    runner._train_loop = runner.build_train_loop(cfg.train_cfg)
    runner.build_val_loop(cfg.val_cfg)
    assert needed == [workers * 3 * 2 * SLICE, workers * (6 * SLICE + 3 * 4 * SLICE)]


def test_a_first_case_that_cannot_be_read_is_told_at_the_start(phantom: Path, tmp_path: Path) -> None:
    shutil.copytree(phantom, root := tmp_path / "data")
    path = root / "train_npz/case0001_slice000.npz"
    path.write_bytes(path.read_bytes()[:300])
    cfg = tiny_config(root, tmp_path / "run")
    cfg.train_dataloader.dataset.cache = None
    with pytest.raises(UserError, match=r"case0001_slice000.npz cannot be read"):
        Runner.from_cfg(cfg).train()
    assert not list((tmp_path / "run").glob("*.pth"))


def can_mount() -> bool:
    words = ["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", "/dev/shm"]
    try:
        return subprocess.run(words, capture_output=True, check=False, timeout=20).returncode == 0
    except OSError:
        return False


@pytest.mark.full
@pytest.mark.skipif(not can_mount(), reason="a private /dev/shm cannot be mounted here")
def test_training_beside_a_small_shared_memory(phantom: Path, tmp_path: Path) -> None:
    """Batches of 16 MB and a /dev/shm of 16 MB: without the check the loader waits for ever."""
    told = ["--data-root", str(phantom), "--work-dir", str(tmp_path), "--cfg-options", *SHORT, "train_cfg.max_iters=2"]
    told += ["train_dataloader.num_workers=2", "train_dataloader.batch_size=800"]
    told += ["train_dataloader.dataset.cache=None"]
    script = 'mount -t tmpfs -o size=16m tmpfs /dev/shm && exec "$@"'
    words = ["unshare", "-rm", "sh", "-c", script, "sh", sys.executable, str(ROOT / "train.py")]
    words += [str(ROOT / "configs/fcn/fcn_r18_d8_40k_synapse.py"), *told]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2, done.stderr
    assert "16 MB are free in /dev/shm" in done.stderr and "num_workers=0" in done.stderr
    assert "Traceback" not in done.stderr
