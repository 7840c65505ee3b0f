"""``medseg-kd COMMAND`` calls every command, and lists them without importing what they need."""

import subprocess
import sys
from pathlib import Path

import pytest

from medseg_kd.cli import Parser, commands

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _unnamed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Parser, "command", None)


def test_every_script_is_a_command() -> None:
    modules = {module for _, module in commands.COMMANDS.values()}
    assert modules == {path.stem for path in [*ROOT.glob("tools/*.py"), ROOT / "train.py", ROOT / "test.py"]}


@pytest.mark.parametrize("name", commands.COMMANDS)
def test_help_tells_how_it_is_called(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        commands.main([name, "--help"])
    assert capsys.readouterr().out.startswith(f"usage: medseg-kd {name} ")


def test_it_does_what_the_script_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    commands.main(["phantom", "--out", str(tmp_path / "phantom"), "--size", "48", "--slices", "4"])
    assert (tmp_path / "phantom/manifest.json").is_file() and "synthetic phantom" in capsys.readouterr().out


def test_a_misspelt_command_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        commands.main(["tran", "config.py"])
    assert "medseg-kd: error: there is no command 'tran'; did you mean train or taps?" in capsys.readouterr().err


def test_the_list_is_there_at_once() -> None:
    script = (
        "import sys; from medseg_kd.cli.commands import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: print(sorted({'torch', 'numpy', 'mmengine'} & {*sys.modules}))"
    )
    found = subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, capture_output=True, text=True)
    assert "\n  compare-runs     tested runs side by side\n" in found.stdout and found.stdout.endswith("[]\n")
