"""Runs that are asked to end, that lose a process, or that find their folder taken."""

import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook

from medseg_kd.engine import Runner
from medseg_kd.models.checkpoint import last_checkpoint
from tests.cli.experiment_runs import write_config
from tests.conftest import ROOT
from tests.engine.processes import are_gone, children, says, started, wait_until
from tests.engine.tiny import TinyNet, tiny_config
from tests.engine.two_processes import free_port, in_two_processes

LONG = 100_000
UNCACHED = {"train_dataloader.dataset.cache": None}
WORKERS = {"train_dataloader.num_workers": 2, **UNCACHED}
pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals")


class SlowNet(TinyNet):
    """Says so before a step, or before a prediction, and takes its time."""

    def __init__(self, num_classes: int, training: bool, seconds: float) -> None:
        super().__init__(num_classes)
        self.slow = training, seconds

    def forward(self, x):
        if self.training is self.slow[0]:
            print("slow", flush=True)
            time.sleep(self.slow[1])
        return super().forward(x)


def slow(training: bool, seconds: float) -> dict:
    return {"model.network": dict(type=SlowNet, training=training, seconds=seconds)}


def _train(phantom, folder, changes):
    cfg = tiny_config(phantom, folder, LONG, **{"default_hooks.checkpoint.interval": LONG, **changes})
    cfg.resume = (path := last_checkpoint(folder)) is not None
    cfg.load_from = str(path) if path else None
    Runner.from_cfg(cfg).train()


def _test(phantom, folder, changes):
    Runner.from_cfg(tiny_config(phantom, folder, **changes)).test()


def _saved(folder: Path) -> int:
    """The iteration that a run has saved and points to."""
    path = last_checkpoint(folder)
    checkpoint = torch.load(path, weights_only=True)
    assert (folder / "last_checkpoint").is_file() and path.name == f"iter_{checkpoint['meta']['iter']}.pth"
    assert "optimizer" in checkpoint
    return checkpoint["meta"]["iter"]


@pytest.mark.parametrize(("asked", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_training_that_is_asked_to_end_saves_and_says_how_to_go_on(phantom, tmp_path, asked, code):
    """All of its processes are asked, as by a terminal or by Slurm."""
    folder, out = tmp_path / "run", tmp_path / "out.txt"
    with started(_train, phantom, folder, WORKERS, out=out) as process:
        wait_until(lambda: says(out, f"[     3/{LONG}]"))
        loading = children(process.pid)
        assert len(loading) == 2 and (folder / ".lock").is_file()
        os.killpg(process.pid, asked)
        process.join(120)
        assert process.exitcode == code and are_gone(loading)
    iteration = _saved(folder)
    text = out.read_text()
    (line,) = [line for line in text.splitlines() if "--resume" in line]
    assert f"stopped after iteration {iteration} ({asked.name})" in line and str(folder) in line
    assert "Traceback" not in text and "rror" not in text.replace("mirror", "")
    assert not (folder / ".lock").exists()
    again = tmp_path / "again.txt"
    with started(_train, phantom, folder, {}, out=again):
        wait_until(lambda: says(again, f"[{iteration + 1:6}/{LONG}]"))
    assert "is taken over" not in again.read_text() and "[     1/" not in again.read_text()


def test_a_second_interrupt_ends_at_once(phantom, tmp_path):
    out = tmp_path / "out.txt"
    with started(_train, phantom, tmp_path, {**WORKERS, **slow(True, 60)}, out=out) as process:
        wait_until(lambda: says(out, "slow"))
        loading = children(process.pid)
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.5)
        assert process.is_alive()
        os.killpg(process.pid, signal.SIGINT)
        process.join(30)
        assert process.exitcode == 130
        wait_until(lambda: are_gone(loading), 20)
    assert "Traceback" not in out.read_text() and not list(tmp_path.glob("*.pth"))


class AskInSave(Hook):
    """Asks the process to end while it writes its second checkpoint."""

    def before_train(self, runner):
        save, saved = torch.save, []

        def asked(content, file):
            saved.append(file)
            if len(saved) == 2:
                os.kill(os.getpid(), signal.SIGTERM)
            save(content, file)

        torch.save = asked


def test_a_training_that_is_asked_to_end_while_it_saves_ends_with_that_checkpoint(phantom, tmp_path):
    out = tmp_path / "out.txt"
    changes = {"default_hooks.checkpoint.interval": 2, "custom_hooks": [dict(type=AskInSave)]}
    with started(_train, phantom, tmp_path / "run", changes, out=out) as process:
        process.join(120)
        assert process.exitcode == 143
    assert _saved(tmp_path / "run") == 4 and "Traceback" not in out.read_text()
    assert sorted(path.name for path in (tmp_path / "run").glob("*.pth")) == ["iter_2.pth", "iter_4.pth"]
    assert not list((tmp_path / "run").glob(".*"))


def test_loading_processes_die_with_a_training_that_is_killed(phantom, tmp_path):
    out = tmp_path / "out.txt"
    with started(_train, phantom, tmp_path, WORKERS, out=out) as process:
        wait_until(lambda: says(out, f"[     3/{LONG}]"))
        loading = children(process.pid)
        os.kill(process.pid, signal.SIGKILL)
        wait_until(lambda: are_gone(loading), 20)
    again = tmp_path / "again.txt"
    with started(_train, phantom, tmp_path, {}, out=again):
        wait_until(lambda: says(again, f"[     1/{LONG}]"))
    assert f"process {process.pid} on" in again.read_text() and "is taken over" in again.read_text()


def test_a_loading_process_that_dies_ends_the_training(phantom, tmp_path):
    out = tmp_path / "out.txt"
    with started(_train, phantom, tmp_path, WORKERS, out=out) as process:
        wait_until(lambda: says(out, f"[     3/{LONG}]"))
        loading = children(process.pid)
        os.kill(loading[0], signal.SIGKILL)
        process.join(120)
        assert process.exitcode == 1 and are_gone(loading)
    assert "Traceback" not in out.read_text()
    assert re.search(rf"error: a loading process (\(pid {loading[0]}\) )?was killed", out.read_text())
    assert not (tmp_path / ".lock").exists()


def _lose_two(phantom):
    """Lose a loading process, and the other one while the error of the first is handled."""
    cfg = tiny_config(phantom, phantom, LONG, **WORKERS).train_dataloader
    batches = iter(Runner.build_dataloader(cfg))
    next(batches)
    first, second = (process.pid for process in multiprocessing.active_children())
    try:
        os.kill(first, signal.SIGKILL)
        for _ in batches:
            pass
    except (RuntimeError, OSError, EOFError) as error:  # PyTorch's, or of a pipe that nobody writes to any more
        os.kill(second, signal.SIGKILL)
        wait_until(lambda: are_gone([second]))
        print("handled", error)


def test_the_death_of_a_loading_process_is_raised_once(phantom, tmp_path):
    out = tmp_path / "out.txt"
    with started(_lose_two, phantom, out=out) as process:
        process.join(120)
        assert process.exitcode == 0
    assert "handled" in out.read_text() and "Traceback" not in out.read_text()


def test_a_validation_that_is_asked_to_end_leaves_what_was_trained(phantom, tmp_path):
    """The weights that training goes on with, and not their average, which was validated."""
    out = tmp_path / "out.txt"
    ema = dict(type="EMAHook", momentum=0.3)
    changes = {"train_cfg.val_interval": 3, "custom_hooks": [ema], **slow(False, 1)}
    with started(_train, phantom, tmp_path / "run", changes, out=out) as process:
        wait_until(lambda: says(out, "slow"))
        os.kill(process.pid, signal.SIGTERM)
        process.join(120)
        assert process.exitcode == 143
    assert "Traceback" not in out.read_text()
    assert _saved(tmp_path / "run") == 3
    cfg = tiny_config(phantom, tmp_path / "whole", 3, **{"custom_hooks": [ema], "train_cfg.val_interval": 4})
    Runner.from_cfg(cfg).train()
    stopped, whole = (torch.load(tmp_path / name / "iter_3.pth", weights_only=True) for name in ("run", "whole"))
    for key in ("state_dict", "ema_state_dict"):
        assert all(torch.equal(value, whole[key][name]) for name, value in stopped[key].items())
    name = "network.head.1.weight"
    assert not torch.equal(whole["state_dict"][name], whole["ema_state_dict"][f"module.{name}"])


@pytest.mark.parametrize(("asked", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_test_that_is_asked_to_end(phantom, tmp_path, asked, code):
    Runner.from_cfg(tiny_config(phantom, tmp_path, 1)).train()
    before = sorted(tmp_path.glob("*.pth"))
    out = tmp_path / "out.txt"
    changes = {"load_from": str(tmp_path / "iter_1.pth"), "test_dataloader.num_workers": 1, **slow(False, 60)}
    with started(_test, phantom, tmp_path, changes, out=out) as process:
        wait_until(lambda: says(out, "slow"))
        loading = children(process.pid)
        assert len(loading) == 1
        os.killpg(process.pid, asked)
        process.join(120)
        assert process.exitcode == code and are_gone(loading)
    assert "Traceback" not in out.read_text() and out.read_text().endswith("error: interrupted\n")
    assert sorted(tmp_path.glob("*.pth")) == before


def test_a_run_folder_is_for_one_training(phantom, tmp_path):
    out = tmp_path / "out.txt"
    with started(_train, phantom, tmp_path, slow(True, 60), out=out) as process:
        wait_until(lambda: says(out, "slow"))
        second = tmp_path / "second.txt"
        with started(_train, phantom, tmp_path, {}, out=second) as other:
            other.join(120)
            assert other.exitcode == 2
    assert second.read_text().splitlines()[-1].startswith(f"error: {tmp_path} is in use by process {process.pid} on ")
    assert not list(tmp_path.glob("*.pth"))


class Ask(Hook):
    """Asks some of two processes to end, in the sixth iteration."""

    def __init__(self, *ranks: int) -> None:
        self.ranks = ranks

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if batch_idx == 5 and torch.distributed.get_rank() in self.ranks:
            os.kill(os.getpid(), signal.SIGTERM)


_ASKED = {"one": (1,), "both": (0, 1), "before a validation": (1,)}


def _asked(phantom, folder):
    """What the processes end after, and with what."""
    ends = {}
    for name, ranks in _ASKED.items():
        validation = 6 if "validation" in name else 50
        changes = {"default_hooks.checkpoint.interval": 50, "train_cfg.val_interval": validation}
        cfg = tiny_config(phantom, folder / name, 50, **changes)
        cfg.launcher = "pytorch"
        runner = Runner.from_cfg(cfg)
        runner.register_hook(Ask(*ranks))
        try:
            runner.train()
        except SystemExit as stop:
            ends[name] = runner.iter + (validation != 6), stop.code
    return ends


def test_two_processes_end_after_the_same_iteration(phantom, tmp_path):
    one, other = in_two_processes(_asked, phantom, tmp_path)
    assert one == other == {name: (_saved(tmp_path / name), 143) for name in _ASKED}
    assert one["before a validation"][0] == 6 and all(6 <= iteration <= 7 for iteration, _ in one.values())


def _train_as(rank, port, phantom, folder):
    names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in names.items()})
    _train(phantom, folder, {"launcher": "pytorch", "train_dataloader.num_workers": 1} | UNCACHED)


def test_a_process_that_dies_ends_the_other_one(phantom, tmp_path):
    """With a message, and without leaving loading processes or a lock behind."""
    out, lost, port = tmp_path / "out.txt", tmp_path / "lost.txt", free_port()
    with (
        started(_train_as, 0, port, phantom, tmp_path / "run", out=out) as process,
        started(_train_as, 1, port, phantom, tmp_path / "run", out=lost) as other,
    ):
        wait_until(lambda: says(out, f"[     3/{LONG}]"))
        loading = [*children(process.pid), *children(other.pid)]
        assert len(loading) == 2
        os.kill(other.pid, signal.SIGKILL)
        process.join(30)
        assert process.exitcode == 1
        wait_until(lambda: are_gone(loading), 20)
    assert "Traceback" not in out.read_text()
    assert "error: another process of this run has ended" in out.read_text()
    assert not (tmp_path / "run/.lock").exists()


@pytest.mark.full
@pytest.mark.parametrize("ended", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_torchrun_ends_with_all_of_its_processes(phantom, tmp_path, ended):
    """Asked, they save; when it is killed, they are asked by that."""
    run, out = tmp_path / "work_dirs/tiny", tmp_path / "out.txt"
    write_config(tmp_path, "tiny", 8, LONG)
    options = {**WORKERS, "default_hooks.checkpoint.interval": LONG, "train_cfg.val_interval": LONG}
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc_per_node",
        "2",
        "--master_port",
        str(free_port()),
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    with out.open("w") as file:
        process = subprocess.Popen(
            [*command, str(ROOT / "train.py"), "tiny.py", "--launcher", "pytorch", "--data-root", str(phantom)]
            + ["--cfg-options", *(f"{key}={value}" for key, value in options.items())],
            **dict(cwd=tmp_path, env=environment, stdout=file, stderr=subprocess.STDOUT, start_new_session=True),
        )
    try:
        wait_until(lambda: says(out, f"[     3/{LONG}]"))
        all_of_them = children(process.pid)
        assert len(all_of_them) == 6
        process.send_signal(ended)
        process.wait(120)
        wait_until(lambda: are_gone(all_of_them), 60)
    finally:
        process.kill()
    assert _saved(run) >= 3 and not (run / ".lock").exists()
    assert f"stopped after iteration {_saved(run)}" in out.read_text()


def _refused(phantom, folder):
    cfg = tiny_config(phantom, folder, LONG)
    cfg.launcher = "pytorch"
    try:
        Runner.from_cfg(cfg).train()
    except Exception as error:
        return type(error).__name__, str(error)


def test_two_processes_are_both_refused_a_folder_that_is_taken(phantom, tmp_path):
    out = tmp_path / "out.txt"
    with started(_train, phantom, tmp_path, slow(True, 60), out=out) as process:
        wait_until(lambda: says(out, "slow"))
        for name, message in in_two_processes(_refused, phantom, tmp_path):
            assert name == "LockedError" and f"process {process.pid}" in message
