"""Each command block of the documentation runs, here or in the test of its page; or is read; or says why neither.

A block runs in bash, in a folder of its own with made-up data, with short trainings of narrow networks. A block that is
read is expanded by bash, the arguments of each command are parsed, and the config of a training or test is loaded.
"""

import argparse
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

from medseg_kd.cli.run_arguments import load_config
from medseg_kd.configuration import load_run, read_config
from medseg_kd.datasets.phantom import write_phantom
from tests.cli.commands import SHORT, succeed
from tests.pages import PAIRS, ROOT, Code, codes, read
from tests.readers_folders import MAKERS, STUDENT
from tests.test_docs import NAMED

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs bash")
PROGRAMS = ("python", "pip", "make", "torchrun", "srun", "unzip", "nnUNetv2_plan_and_preprocess", "nnUNetv2_train")
COMMAND = re.compile(rf"^(?:\w+=\S* )?(?:{'|'.join(PROGRAMS)}|tools/\w+\.sh|\.ci/run|cd|for|export) ", re.MULTILINE)
SYNOPSIS = re.compile(r"\[-|\[[A-Z]|\.\.\.|\b(?:CHECKPOINT|RUN_A)\b")
PLACEHOLDER = re.compile(r"\{config\}|\b(?:TEACHER_|STUDENT_)?CONFIG\b")
TESTED = {
    "docs/networks.md": "tests/test_docs.py::test_add_your_own_network",
    "docs/hooks.md": "tests/test_docs_hooks.py",
    "docs/losses.md": "tests/test_docs_losses.py::test_the_new_loss_is_trained_on",
    "prepare_dataset.py acdc": "tests/test_docs_datasets.py::test_acdc",
    "prepare_dataset.py kvasir-seg": "tests/test_docs_datasets.py::test_kvasir_seg_scores_are_those_of_polyp_papers",
    "prepare_dataset.py isic2018": "tests/test_docs_datasets.py::test_isic_2018",
    "Dataset017_Heart": "tests/test_docs_datasets.py::test_raw_data_of_nnunet",
    "Task05_Prostate": "tests/test_docs_datasets.py::test_a_task_of_the_decathlon",
    "--label-map amos15": "tests/test_docs_datasets.py::test_amos",
    "Dataset017_Abdomen": "tests/test_docs_nnunet.py::test_the_page",
    "--measures Dice my_measures.Recall": "tests/test_docs_measures.py::test_runs_are_compared_by_it",
    "pip install onnxruntime": "tests/inference/test_exporting.py",
}
"""Part of a block, or its page, and the test that runs it as it is written."""
READ = {
    "make demo ": "long: installs, trains for minutes, runs the suite",
    "make lint ": "long: what .ci/run does",
    "torchrun": "GPUs",
    "tools/dist_train.sh": "GPUs",
    "tools/slurm_train.sh": "a cluster",
    "--executor slurm": "a cluster",
    "--raw RawData": "data under agreement",
    "convert_weights.py mmseg_kd": "weights of others",
    "tools/sweep.py": "long: many trainings",
    "tools/compare_methods.py": "long: many trainings",
    "nnunet_headneck.py": "long: nnU-Net's own trainings",
    "my/kd_nnunet.py": "long: needs an nnU-Net that was trained for it",
    "tools/dev/": "long: measures",
    "tools/report.py": "needs two runs: tests/report/test_page.py",
    "tools/doctor.py": "long: tests/report/test_doctor.py",
}
EXCLUDED = {
    "pip install onedl-": "installs packages",
    "pip install -r requirements.txt\npip install -e .": "installs packages",
    'pip install "medseg_kd[nnunet]"': "installs packages",
    "nnUNetv2_plan": "nnU-Net's own commands",
    "<medseg_kd>/train.py": "needs MMSegmentation's repository",
    "iter_80000.pth teacher.pth --config": "needs a checkpoint of MMEngine: tests/cli/test_convert_weights.py",
}
LONG = ("demo/unet_r18_phantom.py", "demo/unet_r18_headneck.py\n")
"""Read by make test, run by the full suite."""
BLOCKS = [(page, code) for page in PAIRS for code in codes(page)]
BLOCKS = [
    (page, code)
    for page, code in BLOCKS
    if code.kind not in ("", "python", "text", "bibtex") or (not code.kind and COMMAND.search(code.text))
]
TEACHER = "configs/unet/unet_r50_s4_d8_40k_synapse.py"
NARROW = ("backbone.base_channels=8", "backbone.stem_channels=8")


def kind_of(page: str, code: Code) -> tuple[str, str]:
    """How a block is held true, and by what or why."""
    for kind, table in (("tested", TESTED), ("excluded", EXCLUDED), ("read", READ)):
        for part, reason in table.items():
            if part == page or part in code.text:
                return kind, reason
    return ("read", "a synopsis") if SYNOPSIS.search(code.text) else ("run", "")


def blocks(kind: str) -> list[ParameterSet]:
    """The blocks of a kind; long ones run in the full suite, and are read as well."""
    found = []
    for page, code in BLOCKS:
        long = kind_of(page, code)[0] == "run" and any(part in code.text for part in LONG)
        if kind_of(page, code)[0] == kind or (long and kind == "read"):
            marks = [pytest.mark.full] if long and kind == "run" else []
            found.append(pytest.param(page, code, id=f"{page}:{code.line}", marks=marks))
    return found


def calls(text: str, home: Path, *stubs: str) -> list[list[str]]:
    """The programs that bash would start for a block, with their arguments."""
    folder, record = home / "bin", home / "calls"
    folder.mkdir()
    for name in (*PROGRAMS, *stubs):
        (folder / name).write_text('#!/bin/sh\nprintf \'%s\\037\' "${0##*/}" "$@" >>"$CALLS"\necho >>"$CALLS"\n')
        (folder / name).chmod(0o755)
    text = PLACEHOLDER.sub(STUDENT, text)
    surroundings = {"PATH": f"{folder}{os.pathsep}{os.defpath}", "CALLS": str(record)}
    done = subprocess.run(["bash", "-euc", text], cwd=home, env=surroundings, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [line.split("\x1f")[:-1] for line in record.read_text().splitlines()] if record.exists() else []


def script_of(words: list[str], home: Path) -> tuple[str, list[str]] | None:
    """The script that a call runs, relative to the repository, and its arguments."""
    place = next((index for index, word in enumerate(words) if word.endswith(".py")), None)
    if words[0] not in ("python", "torchrun", "srun") or place is None:
        return None
    return os.path.relpath(os.path.normpath(home / words[place]), home), words[place + 1 :]


class ParsedError(Exception):
    """The arguments of a command, in place of what it does."""


def parsed(script: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> argparse.Namespace:
    """What the parser of a script makes of its arguments; a mistake ends the process."""

    def stop(parse: Callable) -> Callable:
        def instead(*args: object) -> None:
            raise ParsedError(parse(*args))

        return instead

    with monkeypatch.context() as patch:
        for name in ("parse_args", "parse_intermixed_args"):
            patch.setattr(argparse.ArgumentParser, name, stop(getattr(argparse.ArgumentParser, name)))
        patch.setattr("medseg_kd.cli.run_arguments.find_config", Path)  # it may be the reader's
        stem = Path(script).stem
        main = import_module(stem if script.startswith("tools/dev/") else f"medseg_kd.cli.{stem}").main
        with pytest.raises(ParsedError) as found:
            main(arguments)
    return found.value.args[0]


def as_called(text: str) -> str:
    """A synopsis with all of its options, the first of alternatives."""
    return re.sub(r"[\[\]]", " ", re.sub(r" \| [^\]]*\]", "]", text)) if "[-" in text or "[RUN" in text else text


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone's configs and tools, a small phantom as Synapse, and a run on it."""
    home = tmp_path_factory.mktemp("trained")
    for name in ("configs", "tools"):
        shutil.copytree(ROOT / name, home / name, ignore=shutil.ignore_patterns("__pycache__"))
    write_phantom(home / "data/synapse", cases=3, test_cases=1, slices=4, size=64, seed=0)
    perform(home, "train.py", [STUDENT])
    return home


def shortened(home: Path, config: str) -> list[str]:
    """Options that make a training short and its networks narrow."""
    cfg = read_config(home / config)
    model, cache = cfg.model, ["train_dataloader.dataset.cache=None"]
    parts = {"": model, "architecture.": model.get("architecture"), "teacher.": model.get("teacher")}
    narrow = [f"model.{part}network.{key}" for part, each in parts.items() if has_backbone(each) for key in NARROW]
    return [
        "train_cfg.max_iters=2",
        "train_dataloader.batch_size=2",
        *(cache if "cache" in cfg.train_dataloader.dataset else ()),
        *SHORT,
        *narrow,
    ]


def has_backbone(model: Mapping | None) -> bool:
    return model is not None and "backbone" in model.get("network", {})


@pytest.fixture
def home(tmp_path: Path, trained: Path) -> Path:
    """A folder with what every reader has, and one run."""
    shutil.copytree(trained, tmp_path / "home")
    return tmp_path / "home"


def furnish(home: Path, page: str, text: str) -> None:
    """Write the files that the page names, and what a block needs."""
    source = read(page)
    for match in re.finditer(r"^```python\n(.*?)^```", source, re.MULTILINE | re.DOTALL):
        if name := NAMED.search(source[: match.start()]):
            (home / name[1]).parent.mkdir(exist_ok=True)
            (home / name[1]).write_text(match[1])
    for part, make in MAKERS.items():
        if text and part in source:
            make(home / part.strip("`").rpartition("`")[2])
    if "configs/distill" in text and TEACHER not in text:
        perform(home, "train.py", [TEACHER])


def perform(home: Path, script: str, arguments: list[str]) -> None:
    """Run one command of a block, with less to do."""
    if script in ("train.py", "test.py"):
        arguments += ["--cfg-options", *shortened(home, arguments[0])]
    if script == "tools/make_phantom.py":
        arguments += ["--cases", "2", "--test-cases", "1", "--slices", "4", "--size", "64"]
    succeed(script, *arguments, cwd=home)


@pytest.mark.parametrize(("page", "code"), blocks("run"))
def test_the_block_runs(page: str, code: Code, home: Path, request: pytest.FixtureRequest) -> None:
    furnish(home, page, code.text)
    for words in calls(code.text, home):
        if (called := script_of(words, home)) is not None:
            perform(home, *called)


@pytest.mark.parametrize(("page", "code"), blocks("read"))
def test_the_commands_are_understood(page: str, code: Code, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    furnish(home, page, "")
    for config in re.findall(r"configs/my/\w+\.py", code.text):  # of the reader, or written by the command before
        if not (home / config).exists():
            (home / config).parent.mkdir(exist_ok=True)
            shutil.copy(home / STUDENT, home / config)
    monkeypatch.chdir(home)
    targets = re.findall(r"^([\w-]+):", read("Makefile"), re.MULTILINE)
    (home / ".ci").mkdir()
    (home / ".ci/run").write_text("#!/bin/sh\n")
    (home / ".ci/run").chmod(0o755)
    for words in calls(as_called(code.text), home, "cp"):
        if words[0] == "make":
            assert set(words[1:]) <= set(targets)
        elif (called := script_of(words, home)) is not None:
            arguments = parsed(*called, monkeypatch)
            if called[0] in ("train.py", "test.py") and Path(arguments.config).is_file():
                load_config(arguments)


@pytest.mark.parametrize("page", ["docs/configs.md", "docs/faq.md"])
def test_the_configs_of_a_page_load(page: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {*home.glob("configs/**/*.py")}
    furnish(home, page, "")
    monkeypatch.chdir(home)
    (config,) = {*home.glob("configs/**/*.py")} - before
    load_run(config.relative_to(home))


def test_each_entry_is_of_a_block() -> None:
    """No class is left of a block that is gone, and each named test exists."""
    for part in (*TESTED, *READ, *EXCLUDED, *LONG):
        assert any(part == page or part in code.text for page, code in BLOCKS), part
    for name in TESTED.values():
        file, _, function = name.partition("::")
        assert f"def {function}" in read(file)
