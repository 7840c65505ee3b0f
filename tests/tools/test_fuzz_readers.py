"""The fuzzer ends with 0 where it finds nothing, and keeps the file where it does."""

import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / "tools" / "dev" / "fuzz_readers.py"
_BROKEN = """
import fuzz_readers
fuzz_readers.read_sample = lambda sample, root: len((root / sample.file).read_bytes()) > 9 or 1 / 0
fuzz_readers.main(["list", "--seconds", "20", "--out", "{}"])
"""


@pytest.mark.full
@pytest.mark.parametrize("broken", [False, True])
def test_findings_end_it(tmp_path: Path, broken: bool) -> None:
    pytest.importorskip("atheris")
    whole = [sys.executable, str(TOOL), "list", "--seconds", "3", "--out", str(tmp_path)]
    command = [sys.executable, "-c", _BROKEN.format(tmp_path)] if broken else whole
    done = subprocess.run(command, cwd=TOOL.parent, capture_output=True, text=True, timeout=200, check=False)
    assert (done.returncode != 0) is broken, done.stderr
    assert [path.name.partition("-")[0] for path in (tmp_path / "list").glob("crash-*")] == ["crash"] * broken
    assert broken == ("ZeroDivisionError" in done.stdout + done.stderr)
