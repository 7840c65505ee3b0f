"""Each of many bad inputs ends with one message that names it, and leaves nothing."""

from pathlib import Path

import pytest

from tests.bad_inputs.case import Case, check, make_home
from tests.bad_inputs.checkpoints import CHECKPOINTS
from tests.bad_inputs.command_lines import COMMAND_LINES
from tests.bad_inputs.data import DATA
from tests.bad_inputs.environments import ENVIRONMENTS
from tests.bad_inputs.models import MODELS
from tests.bad_inputs.structures import STRUCTURES
from tests.bad_inputs.values import VALUES

CASES = [*VALUES, *MODELS, *STRUCTURES, *COMMAND_LINES, *CHECKPOINTS, *DATA, *ENVIRONMENTS]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, phantom: Path) -> Path:
    """Where the commands are called."""
    folder = tmp_path_factory.mktemp("home")
    make_home(folder, phantom)
    return folder


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_bad_input(case: Case, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check(case, home, monkeypatch)


def test_there_are_many() -> None:
    assert len({case.name for case in CASES}) == len(CASES) >= 200
