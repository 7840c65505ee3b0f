"""The teacher's proof."""

import sys
from types import SimpleNamespace

import torch

from medseg_kd.distill import KD, MultiTeacherDistill, SingleTeacherDistill
from medseg_kd.engine import CaseProgressHook, Runner
from tests.engine.tiny import tiny_config


def _distil(phantom, folder, teacher_ckpt, **changes):
    cfg = tiny_config(phantom, folder, max_iters=1)
    cfg.model = dict(
        type=SingleTeacherDistill,
        architecture=cfg.model,
        teacher=cfg.model,
        teacher_ckpt=teacher_ckpt,
        distiller=dict(type=KD),
    )
    if changes:
        teachers = [dict(model=cfg.model.teacher, ckpt=ckpt) for ckpt in teacher_ckpt]
        cfg.model = dict(type=MultiTeacherDistill, architecture=cfg.model.architecture, teachers=teachers, **changes)
    runner = Runner.from_cfg(cfg)
    runner.train()
    return next(folder.rglob("*.log")).read_text(encoding="utf-8")


def test_a_teacher_at_chance_level_is_told(phantom, tmp_path):
    """One iteration teaches nothing: the teacher is named with its checkpoint."""
    Runner.from_cfg(tiny_config(phantom, tmp_path / "teacher", max_iters=2)).train()
    log = _distil(phantom, tmp_path / "student", str(tmp_path / "teacher"))
    assert "on validation case case0004" in log
    warning = next(line for line in log.splitlines() if "chance level" in line)
    assert "WARNING" in warning
    assert str(tmp_path / "teacher") in warning


def test_the_checkpoint_of_a_distillation_holds_the_student_alone(phantom, tmp_path):
    _distil(phantom, tmp_path / "student", None)
    Runner.from_cfg(tiny_config(phantom, tmp_path / "plain", max_iters=1)).train()
    distilled, plain = (torch.load(tmp_path / name / "iter_1.pth", weights_only=True) for name in ("student", "plain"))
    assert distilled["state_dict"].keys() == plain["state_dict"].keys()
    assert distilled["connectors"] == {}
    sizes = [len(each["optimizer"]["state"]) for each in (distilled, plain)]
    assert sizes[0] == sizes[1]


def test_each_of_several_teachers_proves_itself(phantom, tmp_path):
    runs = [str(tmp_path / name) for name in ("first", "second")]
    for run in runs:
        Runner.from_cfg(tiny_config(phantom, run, max_iters=2)).train()
    log = _distil(phantom, tmp_path / "student", runs, distiller=dict(type=KD))
    assert "distill.loss_kd" in log
    for run in runs:
        assert f"Teacher loaded from {run}/iter_2.pth" in log
        assert f"teacher ({run}/iter_2.pth): Dice" in log
    checkpoint = torch.load(tmp_path / "student/iter_1.pth", weights_only=True)
    assert (
        checkpoint["state_dict"].keys() == torch.load(f"{runs[0]}/iter_2.pth", weights_only=True)["state_dict"].keys()
    )


def test_progress_on_a_terminal_counts_all_cases(monkeypatch, capsys):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    hook, runner = CaseProgressHook(), SimpleNamespace(test_dataloader=[0, 1, 2])
    hook.before_test_epoch(runner)
    for index in range(3):
        hook.after_test_iter(runner, index)
    hook.after_test_epoch(runner)
    assert capsys.readouterr().err.startswith("test: 3/3")
