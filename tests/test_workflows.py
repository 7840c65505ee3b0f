"""The workflows are what GitHub reads, and call what is there."""

import re
from typing import Any

import pytest
import yaml

from medseg_kd.cli.commands import COMMANDS
from tests.cli.commands import ROOT

WORKFLOWS = sorted((ROOT / ".github/workflows").iterdir())
KEYS = {"name", "on", "permissions", "concurrency", "jobs"}
STEP = {"name", "uses", "with", "run", "env"}


@pytest.fixture(params=WORKFLOWS, ids=[path.name for path in WORKFLOWS])
def jobs(request: pytest.FixtureRequest) -> dict[str, Any]:
    text = request.param.read_text(encoding="utf-8")
    named = re.findall(r"^ {0,2}(\w[\w-]*):", text, re.MULTILINE)
    assert len(named) == len({*named})  # of two jobs of one name YAML drops the first
    read = yaml.safe_load(text)
    read["on"] = read.pop(True)  # as YAML 1.1 reads that word
    assert {"name", "on", "permissions", "jobs"} <= read.keys() <= KEYS
    return read["jobs"]


def scripts(jobs: dict[str, Any]) -> str:
    return "\n".join(step["run"] for job in jobs.values() for step in job["steps"] if "run" in step)


def test_jobs_and_steps(jobs: dict[str, Any]) -> None:
    for job in jobs.values():
        assert job["runs-on"] and all(step.keys() <= STEP for step in job["steps"])
        assert all(("uses" in step) != ("run" in step) for step in job["steps"])
        actions = [step["uses"] for step in job["steps"] if "uses" in step]
        assert actions[0].startswith("actions/checkout@")
        assert all(re.fullmatch(r"actions/[\w-]+@v\d+", action) for action in actions)


def test_what_they_call_is_there(jobs: dict[str, Any]) -> None:
    text = scripts(jobs)
    targets = set(re.findall(r"^([\w-]+):(?!=)", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"\bmake ([\w-]+)", text)) <= targets
    files = re.findall(r"(?:python |-r )([\w./-]+\.(?:py|txt))|(configs/[\w./-]+)", text)
    assert not [path for pair in files for path in pair if path and not (ROOT / path).is_file()]
    assert set(re.findall(r"\bmedseg-kd ([a-z-]+)", text)) - {"--version"} <= {name.split()[0] for name in COMMANDS}


def test_all_that_a_change_has_to_pass_runs() -> None:
    text = (ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8")
    assert all(each in text for each in ("make lint", "make docs", "macos-", "windows-", "twine check --strict"))
    assert '-m "not full"' in text and '-m "not full"' in (ROOT / "Makefile").read_text()
    gate = re.findall(r"^make (\w+)$", (ROOT / ".ci/run").read_text(encoding="utf-8"), re.MULTILINE)
    assert "test" in gate and all(f"make {target}" in text for target in gate if target != "test")
