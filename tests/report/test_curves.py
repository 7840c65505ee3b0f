"""Curves of what runs logged, resumed or not."""

import json
from pathlib import Path

import pytest
from PIL import Image

from medseg_kd.cli.analyze_logs import main
from medseg_kd.errors import UserError
from medseg_kd.report.curves import read_curves


def write_log(run: Path, time: str, *entries: dict) -> Path:
    (run / time / "vis_data").mkdir(parents=True)
    (run / time / "vis_data/scalars.json").write_text("".join(f"{json.dumps(each)}\n" for each in entries))
    return run


def trained(step: int, loss: float) -> dict:
    return dict(lr=0.1 / step, loss=loss, time=0.5, memory=9, iter=step, step=step)


@pytest.fixture
def resumed(tmp_path: Path) -> Path:
    """Killed after iteration 4, resumed at 2, tested."""
    score = dict(mDice=50.0, time=9.0)
    write_log(
        tmp_path / "run",
        "1",
        dict(mDice=90.0, step=0),
        trained(1, 4),
        trained(2, 3),
        dict(score, step=2),
        trained(4, 1),
    )
    write_log(tmp_path / "run", "2", trained(3, 2.5), dict(score, mDice=60.0, step=3))
    return write_log(tmp_path / "run", "3", dict(score, mDice=61.0, step=3))


def test_a_resumed_run_is_one_curve(resumed: Path) -> None:
    curves = read_curves(resumed)
    assert curves["loss"] == {1: 4, 2: 3, 3: 2.5} and curves["mDice"] == {2: 50, 3: 60}
    assert curves["time"] == {1: 0.5, 2: 0.5, 3: 0.5} and "step" not in curves


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_they_are_listed_and_drawn(
    ending: str, resumed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other, out = write_log(tmp_path / "other", "1", trained(1, 5)), tmp_path / f"curves.{ending}"
    main([str(resumed), str(other), "--out", str(out)])
    said = capsys.readouterr().out
    assert f"| {resumed} | loss | 3 | 2.5 | 2.5 | 4 |" in said and f"| {other} | loss | 1 | 5 |" in said
    assert "| memory |" not in said and f"{other} | mDice" not in said
    assert out.read_bytes().startswith({"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[ending])
    if ending == "png":
        assert Image.open(out).width == 3 * 5 * 150


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["run", "--keys", "los"], "--keys los: no run logged it; did you mean loss?"),
        (["run", "--out", "curves.bmp"], "curves.bmp: expected a name that ends in .png"),
        (["."], "holds no log of a training"),
    ],
)
def test_what_cannot_be_is_told(words: list[str], told: str, resumed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(resumed.parent)
    with pytest.raises(UserError, match=told):
        main(words)
