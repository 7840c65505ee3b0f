"""The notebook runs as it is stored, without outputs, from a folder that has nothing of the project."""

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from PIL import Image

from tests.cli.commands import ROOT

NOTEBOOK = ROOT / "docs/notebooks/first_student.ipynb"


def ran(monkeypatch: pytest.MonkeyPatch, folder: Path, **settings: int) -> list[str]:
    """What each cell printed."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    for name, value in {"OMP_NUM_THREADS": 1, "PYTHONPATH": os.pathsep.join(paths), **settings}.items():
        monkeypatch.setenv(name, str(value))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(folder)}}).execute()
    codes = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return ["".join(each.get("text", "") for each in cell.outputs) for cell in codes]


def test_it_is_stored_without_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    codes = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert codes and not any(cell.outputs or cell.execution_count for cell in codes)


def test_it_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    printed = ran(monkeypatch, tmp_path, ITERATIONS=5, CASES=2)
    assert "liver" in printed[1] and "distill.loss_cwd" in printed[3] and "teacher" in printed[4]
    assert "(16, 96, 96)" in printed[5]
    assert Image.open(tmp_path / "first_student/student.png").size == (1200, 420)


@pytest.mark.full
def test_the_student_finds_organs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    mean = [line for line in ran(monkeypatch, tmp_path)[4].splitlines() if line.startswith("mean")]
    assert all(float(dice) > 50 for dice in mean[-1].split()[1:])
