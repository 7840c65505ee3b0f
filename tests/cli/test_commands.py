"""``medseg-kd COMMAND`` calls every command, and each says its help without importing what it needs."""

import json
import os
import shlex
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from medseg_kd.cli import Parser, choices, commands
from medseg_kd.datasets.conversion.known import KNOWN
from medseg_kd.distill import METHODS
from medseg_kd.evaluation.measures.base import PROTOCOLS
from medseg_kd.evaluation.measures.surface_distance import CONVENTIONS
from medseg_kd.experiments.masks import MEASURES
from medseg_kd.inference.decoding import DECODINGS
from medseg_kd.inference.exporting import KINDS
from medseg_kd.models.weights import SOURCES

ROOT = Path(__file__).parents[2]
SCRIPTS = [*sorted(ROOT.glob("tools/*.py")), ROOT / "train.py", ROOT / "test.py"]
# What each command line prints where nothing is installed.
WITHOUT_PACKAGES = """
import contextlib, io, json, runpy, sys
sys.path.append(sys.argv[1])
from medseg_kd.cli import Parser, commands
from medseg_kd.errors import UserError
told = []
for kind, *words in json.loads(sys.stdin.read()):
    Parser.command = None
    with io.StringIO() as text, contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
        try:
            if kind == "medseg-kd":
                commands.main(words)
            else:
                sys.argv[:] = [kind, *words]
                runpy.run_path(kind, run_name="__main__")
        except (SystemExit, UserError) as end:
            told.append([getattr(end, "code", str(end)), text.getvalue()])
print(json.dumps(told))
"""


@pytest.fixture(autouse=True)
def _unnamed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Parser, "command", None)


def without_packages(lines: list[list[str]]) -> list[list]:
    """Exit code or message, and text of each command line, the first word of which is a script or medseg-kd."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", WITHOUT_PACKAGES, ROOT],
        input=json.dumps(lines),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_every_script_is_a_command() -> None:
    modules = {module for _, module in commands.COMMANDS.values()}
    assert modules == {path.stem for path in SCRIPTS}


def test_help_is_there_without_the_packages_that_the_command_needs() -> None:
    names = list(commands.COMMANDS)
    lines = [["medseg-kd", *name.split(), "--help"] for name in names]
    lines += [[str(path), "--help"] for path in SCRIPTS]
    told = without_packages(lines)
    for name, (code, text) in zip(names, told, strict=False):
        assert code == 0 and text.startswith(f"usage: medseg-kd {name} ") and f"\n  medseg-kd {name} " in text
    for path, (code, text) in zip(SCRIPTS, told[len(names) :], strict=True):
        script = path.relative_to(ROOT).as_posix()
        assert code == 0 and text.startswith(f"usage: {path.name} ") and f"\n  python {script} " in text


@pytest.mark.parametrize("name", commands.COMMANDS)
def test_the_examples_of_a_help_are_what_the_command_takes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    parser = import_module(f"medseg_kd.cli.{commands.COMMANDS[name][1]}").parser()
    lines = parser.epilog.replace("\\\n", "").splitlines()[1:]
    for line in lines:
        words = shlex.split(line)
        assert words[0] == "python" and (ROOT / words[1]).is_file()
        parser.read(words[2:])
    assert lines


@pytest.mark.parametrize(
    ("line", "code", "message"),
    [
        ("", 0, "\n  compare runs     tested runs side by side\n"),
        ("prepare", 0, "usage: medseg-kd prepare COMMAND ..."),
        ("--version", 0, "0."),
        ("tran config.py", 2, "medseg-kd: error: there is no command 'tran'; did you mean train or taps?"),
        ("--versoin", 2, "there is no option --versoin; did you mean --version?"),
        ("compare run a b", 2, "there is no command 'compare run'; did you mean compare runs or compare methods?"),
        ("predict run scan.nii --otu masks", 2, "there is no option --otu; did you mean --out or --tta?"),
        ("test --work-dri=x", 2, "medseg-kd test: error: there is no option --work-dri; did you mean --work-dir"),
        ("train", 2, "the following arguments are required: CONFIG"),
        ("phantom --out x --size large", 2, "argument --size: invalid int value: 'large'"),
        ("evaluate a b --hd95 mine", 2, "argument --hd95: invalid choice: 'mine' (choose from 'medpy', 'monai'"),
    ],
)
def test_what_is_mistyped_is_told(line: str, code: int, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        commands.main(line.split())
    assert end.value.code == code and message in "".join(capsys.readouterr())


def test_a_config_that_is_not_there_is_told_as_soon() -> None:
    lines = [["medseg-kd", name, "configs/unet/unet_r18.py"] for name in ("train", "test", "taps", "print-config")]
    for message, _ in without_packages(lines):
        assert message.startswith("config not found: configs/unet/unet_r18.py; did you mean\n    configs/")


def test_it_does_what_the_script_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    commands.main(["phantom", "--out", str(tmp_path / "phantom"), "--size", "48", "--slices", "4"])
    assert (tmp_path / "phantom/manifest.json").is_file() and "synthetic phantom" in capsys.readouterr().out


def test_choices_are_those_of_what_is_called() -> None:
    assert sorted(choices.METHODS) == sorted(METHODS)
    assert tuple(SOURCES) == choices.WEIGHT_SOURCES
    assert {name: known.splits for name, known in KNOWN.items()} == choices.DATA_SETS
    assert choices.PROTOCOLS == PROTOCOLS and tuple(CONVENTIONS) == choices.HD95_CONVENTIONS
    assert choices.MASK_MEASURES == MEASURES and choices.DECODINGS == DECODINGS and choices.EXPORT_KINDS == KINDS


@pytest.mark.parametrize(
    ("line", "some", "none"),
    [
        ("medseg-kd ", {"train", "predict", "prepare", "compare"}, {"prepare dataset", "dataset"}),
        ("medseg-kd prepare ", {"dataset", "slices", "synapse"}, {"train"}),
        ("medseg-kd train --", {"--work-dir", "--resume", "--cfg-options", "--amp"}, {"--out", "--local-rank"}),
        ("medseg-kd compare runs --pro", {"--protocol "}, {"--latex"}),
        ("medseg-kd test --decode ", {"argmax", "rankseg"}, {"--best"}),
        ("medseg-kd prepare dataset k", {"kvasir-seg "}, {"acdc"}),
        ("medseg-kd train c", {"configs/"}, {"configs_dir.py"}),
        ("medseg-kd train configs/demo/unet_r18_p", {"configs/demo/unet_r18_phantom.py "}, set()),
        ("medseg-kd train mi", {"mine.py "}, {"mine.txt"}),
        ("medseg-kd distill --method C", {"CWD", "CIRKD"}, {"KD"}),
    ],
)
def test_the_shell_completes(line: str, some: set[str], none: set[str], tmp_path: Path) -> None:
    for name in ("mine.py", "mine.txt"):
        (tmp_path / name).touch()
    shell = {
        "_ARGCOMPLETE": "1",
        "_ARGCOMPLETE_IFS": "\n",
        "_ARGCOMPLETE_STDOUT_FILENAME": str(tmp_path / "answer"),
        "COMP_LINE": line,
        "COMP_POINT": str(len(line)),
        "COMP_TYPE": "9",
        "PYTHONPATH": str(ROOT),
    }
    script = "from medseg_kd.cli.commands import entry; entry()"
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env={**os.environ, **shell}, check=True)
    answer = set((tmp_path / "answer").read_text(encoding="utf-8").split("\n"))
    assert answer >= some and not answer & none, answer
