"""tools/sweep.py."""

import json
import statistics
from pathlib import Path

import pytest
import torch

from medseg_kd.cli.sweep import main
from medseg_kd.errors import UserError
from tests.cli.commands import succeed
from tests.cli.experiment_runs import Forked, fork_runs, write_config


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a config, whose runs are forked."""
    write_config(tmp_path, "student", 8)
    fork_runs(monkeypatch)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_grid_is_scored_on_cases_that_were_not_trained_on(home, phantom, capsys):
    keys = ("--key", "optim_wrapper.optimizer.lr", "--values", "0.1", "--key", "model.ignore_index")
    arguments = ["student.py", *keys, "--values", "255", "--hold-out", "1", "--seeds", "3", "5"]
    main([*arguments, "--data-root", str(phantom)])
    folder = Path("work_dirs/sweep/student/lr=0.1,ignore_index=255")
    assert sorted(path.name for path in folder.iterdir()) == ["seed3", "seed5"]
    log = (folder / "seed3/train.log").read_text(encoding="utf-8")
    config = torch.load(folder / "seed3/iter_2.pth", weights_only=True)["meta"]["cfg"]
    assert "exclude_cases" in config and "seed=3" in config.replace(" ", "")
    assert "Iter(val)" not in log
    rows = (folder / "seed5/test/per_case.csv").read_text(encoding="utf-8").splitlines()[1:]
    assert {row.split(",")[1] for row in rows} == {"case0002"}

    dice = [json.loads((folder / f"seed{seed}/test/metrics.json").read_text())["transunet"]["mDice"] for seed in (3, 5)]
    out = capsys.readouterr().out
    assert f"| 0.1, 255 | {statistics.fmean(dice):.2f} ± {statistics.stdev(dice):.2f} |" in out
    assert "scored on 1 training case(s): case0002" in out
    assert len(Forked.started) == 2
    main([*arguments, "--data-root", str(phantom)])
    assert len(Forked.started) == 2
    assert capsys.readouterr().out.splitlines()[-3:] == out.splitlines()[-3:]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("--key", "model.x", "--values", "1", "--hold-out", "1"), "no key 'x'"),
        (("--key", "a", "--key", "b", "--values", "1", "--hold-out", "1"), "each key needs its own values"),
        (("--key", "train_cfg.max_iters", "--values", "1", "--hold-out", "3"), "hold out fewer"),
        (("--key", "train_cfg.max_iters", "--values", "1", "--hold-out", "1", "--jobs", "0"), "at least 1"),
    ],
)
def test_mistakes(home, phantom, arguments, message):
    with pytest.raises(UserError, match=message):
        main(["student.py", *arguments, "--data-root", str(phantom)])
    assert not Forked.started


def test_the_command(tmp_path, phantom):
    """In processes of its own."""
    write_config(tmp_path, "student", 8)
    arguments = ("--key", "optim_wrapper.optimizer.lr", "--values", "0.1", "--val-cases", "case0001", "--seeds", "0")
    log = succeed("tools/sweep.py", "student.py", *arguments, "--data-root", phantom, cwd=tmp_path)
    assert "| 0.1 |" in log
