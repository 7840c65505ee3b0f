"""What other systems lack: processes that inherit memory, locks, signals and modules of POSIX."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from medseg_kd.engine import Runner
from tests.cli.commands import ROOT
from tests.engine.tiny import tiny_config

LOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")
_SERVED = {"num_workers": 1, "multiprocessing_context": "forkserver"}
# Hidden when all libraries are imported, which on this system need them.
WITHOUT_POSIX = """
import multiprocessing.resource_tracker
import os
import platform
import select
import signal
import sys
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from types import SimpleNamespace

import medseg_kd
import mmcv.transforms, mmengine.runner, mmseg.models, monai.networks.nets, onnxruntime.quantization, submitit, torch
import torch.distributed.launcher

HIDDEN = {
    os: "fork register_at_fork posix_fallocate sched_getaffinity getppid O_NOFOLLOW",
    signal: "SIGKILL SIGHUP SIGUSR1 SIGUSR2 SIGPIPE pthread_sigmask sigpending sigwaitinfo",
    select: "poll",
}


def main():
    sys.modules.update(fcntl=None, resource=None)
    locked = []
    sys.modules["msvcrt"] = SimpleNamespace(locking=lambda *lock: locked.append(lock), LK_NBLCK=2)
    multiprocessing.resource_tracker._HAVE_SIGMASK = False
    for owner, names in HIDDEN.items():
        for name in names.split():
            delattr(owner, name)
    platform.system = lambda: "Windows"
    import medseg_kd

    for module in walk_packages(medseg_kd.__path__, "medseg_kd."):
        import_module(module.name)
    from medseg_kd.engine import Runner
    from tests.engine.tiny import tiny_config

    cfg = tiny_config(Path(sys.argv[1]), Path(sys.argv[2]), 2)
    for loader in sys.argv[3:]:
        cfg[loader].update(num_workers=1, multiprocessing_context="spawn")
    cfg.train_dataloader.dataset.cache = None
    Runner.from_cfg(cfg).train()
    assert locked
    cfg.load_from = f"{sys.argv[2]}/iter_2.pth"
    Runner.from_cfg(cfg).test()


if __name__ == "__main__":
    main()
"""


def _load(path: Path) -> dict:
    return torch.load(path, weights_only=True)["state_dict"]


@pytest.fixture(scope="module")
def whole(phantom, tmp_path_factory):
    """Weights that a run ends with."""
    folder = tmp_path_factory.mktemp("whole")
    Runner.from_cfg(tiny_config(phantom, folder, 2)).train()
    return _load(folder / "iter_2.pth")


@pytest.mark.parametrize("loaders", [LOADERS[:1], pytest.param(LOADERS, marks=pytest.mark.full)], ids=["train", "all"])
def test_without_posix_all_is_imported_and_a_run_trains(phantom, tmp_path, whole, loaders):
    """Loading processes are spawned."""
    script = tmp_path / "script.py"
    script.write_text(WITHOUT_POSIX, encoding="utf-8")
    command = [sys.executable, str(script), str(phantom), str(tmp_path / "run"), *loaders]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert all(torch.equal(value, whole[key]) for key, value in _load(tmp_path / "run/iter_2.pth").items())


@pytest.mark.parametrize("cache", [None, "auto"])
def test_loading_processes_that_inherit_nothing(phantom, tmp_path, whole, cache):
    """In training, validation and test: all that they need reaches them through a pipe, as that of spawned ones."""
    changes = {f"{loader}.{key}": value for loader in LOADERS for key, value in _SERVED.items()}
    changes |= {"train_dataloader.dataset.cache": cache, "train_dataloader.dataset.cache_dir": str(tmp_path / "cache")}
    cfg = tiny_config(phantom, tmp_path / "run", 2, **changes)
    Runner.from_cfg(cfg).train()
    assert all(torch.equal(value, whole[key]) for key, value in _load(tmp_path / "run/iter_2.pth").items())
    cfg.load_from = str(tmp_path / "run/iter_2.pth")
    assert "mDice" in Runner.from_cfg(cfg).test()


def test_a_loading_process_of_a_fork_server_ends_when_it_is_asked(phantom, tmp_path):
    cfg = tiny_config(phantom, tmp_path, **{f"train_dataloader.{key}": value for key, value in _SERVED.items()})
    cfg.train_dataloader.dataset.cache = None
    batches = iter(Runner.build_dataloader(cfg.train_dataloader, seed=0))
    next(batches)
    (process,) = batches._workers
    process.terminate()
    process.join(60)
    assert process.exitcode == 0
