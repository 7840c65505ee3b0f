"""What is kept, what is removed, and what a checkpoint may not do."""

import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import mmengine.hooks
import pytest
import torch
from mmengine.runner import ValLoop

from medseg_kd.cli import run as run_command
from medseg_kd.cli import train
from medseg_kd.configuration import choose_checkpoint, resume
from medseg_kd.distill import KD, SingleTeacherDistill
from medseg_kd.engine import CheckpointHook, Runner
from medseg_kd.errors import UserError
from medseg_kd.models.checkpoint import last_checkpoint
from tests.cli.commands import SHORT
from tests.engine.test_runner import _equal
from tests.engine.tiny import CONFIG, tiny_config
from tests.fork_server import running_server


def _config(phantom: Path, folder: Path, max_iters: int = 4, **checkpoint: Any) -> Any:
    cfg = tiny_config(phantom, folder, max_iters)
    cfg.train_cfg.val_interval = 2
    cfg.default_hooks.checkpoint.update({"interval": 1, "max_keep_ckpts": 2, **checkpoint})
    return cfg


def _go_on(phantom: Path, folder: Path, max_iters: int = 6, **options: Any) -> Runner:
    """Resume a run as the command does."""
    cfg = _config(phantom, folder, max_iters)
    cfg.merge_from_dict(options)
    assert resume(cfg)
    runner = Runner.from_cfg(cfg)
    runner.train()
    return runner


@pytest.fixture(scope="module")
def trained(phantom, tmp_path_factory):
    """A run of four iterations, which keeps its last two checkpoints."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    Runner.from_cfg(_config(phantom, folder)).train()
    return folder


@pytest.fixture
def run(trained, tmp_path):
    """A copy of it."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


def _log(folder: Path) -> str:
    return "".join(path.read_text(encoding="utf-8") for path in sorted(folder.rglob("*.log")))


def _change(path: Path, change: Any) -> None:
    checkpoint = torch.load(path, weights_only=True)
    change(checkpoint)
    torch.save(checkpoint, path)


def test_the_last_ones_and_the_best_stay(trained):
    names = sorted(path.name for path in trained.glob("*.pth"))
    assert names[-2:] == ["iter_3.pth", "iter_4.pth"] and len(names) == 3
    assert (trained / "last_checkpoint").read_text(encoding="utf-8") == str(trained / "iter_4.pth")
    info = torch.load(trained / "iter_4.pth", weights_only=True)["message_hub"]["runtime_info"]
    assert info["best_ckpt"] == names[0] and info["keep_ckpt_ids"] == [3, 4] and info["last_ckpt"] == "iter_4.pth"


@pytest.mark.parametrize("kind", ["CheckpointHook", mmengine.hooks.CheckpointHook])
def test_a_config_that_names_mmengines_hook_gets_this_one(kind, phantom, tmp_path):
    runner = Runner.from_cfg(_config(phantom, tmp_path, type=kind))
    assert [type(hook) for hook in runner.hooks if isinstance(hook, mmengine.hooks.CheckpointHook)] == [CheckpointHook]


def test_a_copied_run_leaves_the_original_alone(trained, run, phantom):
    before = {path.name: path.read_bytes() for path in trained.glob("*.pth")}
    _go_on(phantom, run)
    assert {path.name: path.read_bytes() for path in trained.glob("*.pth")} == before
    assert sorted(path.name for path in run.glob("iter_*.pth")) == ["iter_5.pth", "iter_6.pth"]


def test_nothing_that_a_checkpoint_names_is_run_or_touched(run, phantom, tmp_path):
    outside = tmp_path / "victim.pth"
    outside.write_bytes(b"precious")
    (tmp_path / "best_mDice_iter_1.pth").write_bytes(b"precious")
    (run / "iter_notes.pth").write_bytes(b"mine")

    def spoil(checkpoint: dict[str, Any]) -> None:
        checkpoint["meta"]["config"] = f"import pathlib\npathlib.Path({str(tmp_path / 'ran')!r}).touch()\n"
        checkpoint["message_hub"]["runtime_info"].update(
            best_ckpt=str(tmp_path / "best_mDice_iter_1.pth"),
            last_ckpt=str(outside),
            keep_ckpt_ids=["../victim", f"{outside}", 1, True, -3, 4.5, None, "notes"],
            best_score=-1.0,
        )

    _change(run / "iter_4.pth", spoil)
    (run / "last_checkpoint").write_text(str(tmp_path / "elsewhere/iter_4.pth"), encoding="utf-8")
    _go_on(phantom, run)
    assert not (tmp_path / "ran").exists()
    assert outside.read_bytes() == (tmp_path / "best_mDice_iter_1.pth").read_bytes() == b"precious"
    assert (run / "iter_notes.pth").read_bytes() == b"mine"


def test_links_are_replaced_and_not_written_through(run, phantom, tmp_path):
    (config,) = run.glob("*.py")
    for name in ("last_checkpoint", config.name, "iter_5.pth"):
        target = tmp_path / f"target of {name}"
        target.write_text("iter_4.pth", encoding="utf-8")
        (run / name).unlink(missing_ok=True)
        (run / name).symlink_to(target)
    _go_on(phantom, run, 5)
    for name in ("last_checkpoint", config.name, "iter_5.pth"):
        assert (tmp_path / f"target of {name}").read_text(encoding="utf-8") == "iter_4.pth"
        assert not (run / name).is_symlink()


@pytest.mark.parametrize(
    "pointer",
    [None, b"", b"\xff\xfe\x00", b"/else/where/iter_4.pth", b"iter_99.pth", b"..", b"x" * 10000, b"iter_4.pth\n"],
)
def test_a_pointer_that_leads_nowhere(run, pointer):
    if pointer is None:
        (run / "last_checkpoint").unlink()
    else:
        (run / "last_checkpoint").write_bytes(pointer)
    assert last_checkpoint(run) == run / "iter_4.pth"


def test_a_damaged_checkpoint_is_passed_over(run, phantom):
    content = bytearray((run / "iter_4.pth").read_bytes())
    content[len(content) // 2] ^= 1
    (run / "iter_4.pth").write_bytes(content)
    runner = _go_on(phantom, run, 4)
    assert runner.resumed_from == str(run / "iter_3.pth")
    assert f"Training goes on from {run / 'iter_3.pth'} instead" in _log(run)
    torch.load(run / "iter_4.pth", weights_only=True)
    (run / "iter_3.pth").unlink()
    (run / "iter_4.pth").write_bytes(content)
    with pytest.raises(UserError, match=r"no checkpoint that training could go on from:\n.*iter_4\.pth.*checksum"):
        _go_on(phantom, run)


def test_resume_in_a_config_finds_the_checkpoint(run, phantom, tmp_path):
    cfg = _config(phantom, run, 5)
    cfg.resume = True
    runner = Runner.from_cfg(cfg)
    runner.train()
    assert runner.resumed_from == str(run / "iter_4.pth")
    cfg = _config(phantom, tmp_path / "empty", 1)
    cfg.resume = True
    Runner.from_cfg(cfg).train()
    assert "holds no checkpoint to resume from: training starts anew" in _log(tmp_path / "empty")


def test_a_validation_that_was_due_is_made_up_for(trained, phantom, tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(ValLoop, "run", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
        Runner.from_cfg(_config(phantom, tmp_path)).train()
    assert sorted(path.name for path in tmp_path.glob("*.pth")) == ["iter_1.pth", "iter_2.pth"]
    _go_on(phantom, tmp_path, 4)
    assert "the validation that was due at this iteration is made up for" in _log(tmp_path)
    assert sorted(path.name for path in tmp_path.glob("*.pth")) == sorted(path.name for path in trained.glob("*.pth"))
    one, other = (torch.load(folder / "iter_4.pth", weights_only=True) for folder in (trained, tmp_path))
    assert _equal(one["state_dict"], other["state_dict"])
    assert one["message_hub"]["log_scalars"]["val/mDice"] == other["message_hub"]["log_scalars"]["val/mDice"]


def test_what_a_resumed_run_ignores_of_the_config_is_named(run, phantom):
    options = {
        "optim_wrapper.optimizer.lr": 0.5,
        "optim_wrapper.optimizer.weight_decay": 0.25,
        "param_scheduler": [dict(_config(phantom, run).param_scheduler[0], end=77)],
        "randomness.seed": 9,
    }
    runner = _go_on(phantom, run, 5, **options)
    log = _log(run)
    for line in (
        "optim_wrapper.optimizer.lr: 0.5 in the config, 0.01 goes on",
        "optim_wrapper.optimizer.weight_decay: 0.25 in the config, 0.0005 goes on",
        "param_scheduler.0.end: 77 in the config, 40000 goes on",
        "randomness.seed: 9 in the config, 0 goes on",
        "load_from=",
    ):
        assert line in log
    assert "4 settings of the config are not used" in log
    assert runner.optim_wrapper.param_groups[0]["weight_decay"] == 0.0005 and runner.seed == 0


def test_an_unchanged_config_is_not_complained_about(run, phantom):
    _go_on(phantom, run, 5)
    assert "settings of the config" not in _log(run) and "scored_at" not in _log(run)


def test_another_optimizer_or_schedule_is_refused(run, phantom):
    for options, message in (
        (
            {"optim_wrapper.optimizer": dict(type="AdamW", lr=0.1, _delete_=True)},
            "another optimizer, with the settings",
        ),
        ({"model.network.width": 8}, "of another shape"),
        ({"param_scheduler": []}, r"its schedules of learning rates \(1\) are of other kinds"),
        ({"optim_wrapper.paramwise_cfg": dict(custom_keys={"stem": dict(lr_mult=0.1)})}, r"parameters in 1 group"),
    ):
        with pytest.raises(UserError, match=message):
            _go_on(phantom, run, 5, **options)


def _set(*path: Any, value: Any) -> Any:
    def change(checkpoint: Any) -> None:
        for key in path[:-1]:
            checkpoint = checkpoint[key]
        if value is _ABSENT:
            del checkpoint[path[-1]]
        else:
            checkpoint[path[-1]] = value

    return change


_ABSENT = object()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_set("meta", value=[1]), "meta is a list"),
        (_set("meta", value=_ABSENT), "meta is missing, expected a mapping"),
        (_set("meta", "iter", value="4"), "meta.iter is a str, expected an integer"),
        (_set("meta", "iter", value=-4), "meta.iter is -4"),
        (_set("meta", "epoch", value=True), "meta.epoch is a bool"),
        (_set("meta", "seed", value="0"), "meta.seed is a str"),
        (_set("meta", "seed", value=2**40), "meta.seed is 1099511627776"),
        (_set("message_hub", value=None), "message_hub is a NoneType"),
        (_set("message_hub", "log_scalars", value=_ABSENT), "message_hub.log_scalars is missing"),
        (_set("message_hub", "log_scalars", 7, value={}), "message_hub.log_scalars has a key 7"),
        (_set("message_hub", "log_scalars", "train/loss", value=0.5), "message_hub.log_scalars.train/loss is a float"),
        (_set("message_hub", "log_scalars", "train/loss", "log", value=["x"]), "log and count are not numbers"),
        (_set("message_hub", "runtime_info", "best_score", value="high"), "best_score is a str, expected a number"),
        (_set("optimizer", value=[]), "optimizer is a list"),
        (_set("optimizer", "state", value=None), "optimizer.state is a NoneType"),
        (_set("optimizer", "param_groups", value=[1]), "optimizer.param_groups.0 is a int"),
        (_set("optimizer", "param_groups", 0, "params", value=[0]), "its optimizer trains 1 parameters in 1 group"),
        (_set("optimizer", "param_groups", value=[]), "its optimizer trains 0 parameters in 0 group"),
        (
            _set("optimizer", "state", 0, "momentum_buffer", value=torch.ones(3)),
            r"momentum_buffer has the shape \(3,\)",
        ),
        (_set("param_schedulers", value={"a": 1}), "param_schedulers is not a list"),
        (_set("param_schedulers", 0, "last_step", value="x"), "param_schedulers.0.last_step is a str"),
        (
            _set("state_dict", "network.head.1.bias", value=torch.full((9,), torch.nan)),
            "NaN or infinite numbers in netw",
        ),
        (_set("state_dict", "network.head.1.bias", value=torch.ones(9).to_sparse()), "expected a dense tensor"),
    ],
)
def test_a_checkpoint_of_odd_content_is_refused(run, phantom, change, message):
    _change(run / "iter_4.pth", change)
    cfg = _config(phantom, run, 5)
    cfg.update(resume=True, load_from=str(run / "iter_4.pth"))
    runner = Runner.from_cfg(cfg)
    with pytest.raises(UserError, match=message) as error:
        runner.train()
    assert "iter_4.pth" in str(error.value)


@pytest.mark.parametrize("use", ["test", "load_from", "teacher"])
def test_weights_that_are_not_finite_are_refused(use, run, phantom, tmp_path):
    _change(run / "iter_4.pth", lambda checkpoint: checkpoint["state_dict"]["network.stem.0.weight"].fill_(torch.inf))
    cfg = _config(phantom, tmp_path / "new", 1)
    if use == "teacher":
        parts = dict(architecture=cfg.model, teacher=cfg.model, distiller=dict(type=KD))
        cfg.model = dict(type=SingleTeacherDistill, teacher_ckpt=str(run / "iter_4.pth"), **parts)
    else:
        cfg.load_from = str(run / "iter_4.pth")
    runner = Runner.from_cfg(cfg)
    with pytest.raises(UserError, match=r"iter_4\.pth: NaN or infinite numbers in network\.stem\.0\.weight"):
        runner.test() if use == "test" else runner.train()


def test_a_run_that_starts_anew_puts_the_earlier_one_aside(run, phantom):
    before = {path.name: path.read_bytes() for path in run.glob("*.pth")}
    cfg = _config(phantom, run, 1)
    cfg.optim_wrapper.optimizer.lr = 0.5
    runner = Runner.from_cfg(cfg)
    runner.train()
    log = _log(run)
    assert "holds an earlier run (" in log and "use --resume" in log
    (aside,) = run.glob("replaced_*")
    assert {path.name: path.read_bytes() for path in aside.glob("*.pth")} == before
    assert sorted(path.name for path in run.glob("*.pth")) == ["best_mDice_iter_1.pth", "iter_1.pth"]
    assert choose_checkpoint(cfg, best=True)[0] == run / "best_mDice_iter_1.pth"


def test_until_it_saves_it_leaves_the_earlier_one_in_its_place(run, phantom, monkeypatch):
    before = {path.name: path.read_bytes() for path in run.glob("*.pth")}

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("medseg_kd.engine.checkpoint_runner.write_checkpoint", stop)
    with pytest.raises(KeyboardInterrupt):
        Runner.from_cfg(_config(phantom, run, 1)).train()
    assert {path.name: path.read_bytes() for path in run.glob("*.pth")} == before
    assert last_checkpoint(run) == run / "iter_4.pth"


def _break(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    "broken", ["medseg_kd.engine.checkpoint_runner.write_checkpoint", "medseg_kd.engine.checkpoints.write_text", None]
)
def test_a_run_that_starts_anew_and_ends_in_its_first_save(run, phantom, monkeypatch, broken):
    """Until ``last_checkpoint`` names the new one the earlier run goes on, from then on the new one; none is mixed."""
    before = {path.name: path.read_bytes() for path in run.glob("*.pth")}
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(broken or "medseg_kd.engine.checkpoints._leave", _break)
        Runner.from_cfg(_config(phantom, run, 2)).train()
    assert len(list(run.glob("replaced_*"))) == 1
    names = {path.name for path in run.glob("*.pth")}
    assert names - {"iter_1.pth"} == before.keys()  # not yet removed
    runner = _go_on(phantom, run, 5)
    if broken is None:
        assert runner.resumed_from == str(run / "iter_1.pth")
        (aside,) = run.glob("replaced_*")
        assert {path.name: path.read_bytes() for path in aside.glob("*.pth")} == before
        names = sorted(path.name for path in run.glob("*.pth"))
        assert names[-2:] == ["iter_4.pth", "iter_5.pth"] and len(names) == 3
    else:
        assert runner.resumed_from == str(run / "iter_4.pth") and not list(run.glob("replaced_*"))
        assert (run / "iter_4.pth").read_bytes() == before["iter_4.pth"]


def test_without_second_names_nothing_moves_before_it_must(run, phantom, monkeypatch):
    """File systems that have no hard links."""
    before = {path.name: path.read_bytes() for path in run.glob("*.pth")}
    monkeypatch.setattr(os, "link", lambda *_, **__: (_ for _ in ()).throw(NotImplementedError))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("medseg_kd.engine.checkpoint_runner.write_checkpoint", _break)
        Runner.from_cfg(_config(phantom, run, 1)).train()
    assert {path.name: path.read_bytes() for path in run.glob("*.pth")} == before
    Runner.from_cfg(_config(phantom, run, 4)).train()
    kept = {path.name: path.read_bytes() for path in run.glob("replaced_*/*.pth")}
    assert kept == before


def test_drafts_of_dead_processes_are_removed(run, phantom):
    dead = subprocess.Popen(["true"])
    dead.wait()
    names = [f".{dead.pid}-iter_5.pth", f".{os.getpid()}-best_mDice_iter_2.pth", f".{os.getppid()}-iter_5.pth", ".5x-a"]
    for name in names:
        (run / name).write_bytes(b"half")
    _go_on(phantom, run, 5)
    assert sorted(path.name for path in run.glob(".*")) == sorted(names[2:])


def test_epochs_several_metrics_and_published_weights(phantom, tmp_path):
    cfg = _config(
        *(phantom, tmp_path),
        by_epoch=True,
        max_keep_ckpts=1,
        save_best=["mDice", "mJaccard"],
        published_keys=["meta", "state_dict"],
    )
    cfg.train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=2, val_interval=1)
    cfg.val_evaluator.measures = ("Dice", "Jaccard")
    cfg.train_dataloader.sampler = dict(type="DefaultSampler", shuffle=True)
    Runner.from_cfg(cfg).train()
    names = [path.name for path in tmp_path.glob("*.pth")]
    assert [name for name in names if name.startswith(("epoch_2.", "epoch_1"))] == ["epoch_2.pth"]
    assert last_checkpoint(tmp_path) == tmp_path / "epoch_2.pth"
    for metric in ("mDice", "mJaccard"):
        assert len([name for name in names if name.startswith(f"best_{metric}_epoch_") and "-" not in name]) == 1
    (published,) = tmp_path.glob("epoch_2-????????.pth")
    assert set(torch.load(published, weights_only=True)) == {"meta", "state_dict"}


def _train_on_a_full_disk(phantom: Path, folder: Path, errors: Path) -> None:
    """``train.py`` on a file system that takes no more bytes from the second checkpoint on."""
    save, saved = torch.save, []

    def full(content: Any, file: Any) -> None:
        saved.append(file)
        if len(saved) == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
        save(content, file)

    torch.save = full
    torch.set_num_threads(1)
    sys.stderr = errors.open("w", encoding="utf-8")
    options = [*SHORT, "train_cfg.max_iters=4", "default_hooks.checkpoint.max_keep_ckpts=1"]
    arguments = [str(CONFIG), "--data-root", str(phantom), "--work-dir", str(folder), "--cfg-options", *options]
    run_command(lambda: train.main(arguments))


def test_a_full_disk_ends_the_run_with_one_message_and_leaves_the_checkpoint(phantom, tmp_path):
    process = running_server().Process(
        target=_train_on_a_full_disk, args=(phantom, tmp_path / "run", tmp_path / "errors")
    )
    process.start()
    process.join(240)
    assert process.exitcode == 1
    told = (tmp_path / "errors").read_text(encoding="utf-8")
    assert told.count("error: ") == 1 and "cannot write" in told and "iter_4.pth" in told and "Traceback" not in told
    assert [path.name for path in (tmp_path / "run").glob("*.pth")] == ["iter_2.pth"]
    assert not list((tmp_path / "run").glob(".*"))
    assert last_checkpoint(tmp_path / "run") == tmp_path / "run/iter_2.pth"
