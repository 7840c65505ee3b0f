"""Output that is either there in full or not at all: written beside its place, then renamed into it."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def staged(out: Path) -> Iterator[Path]:
    """A folder beside ``out``, on the same disk, that is gone when the block ends, whatever happens."""
    out.parent.mkdir(parents=True, exist_ok=True)
    stage = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        stage.chmod(0o755)
        yield stage
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def publish(stage: Path, out: Path, parts: list[Path]) -> None:
    """Moves parts of a stage into ``out``, in the order given; a part that is already there is replaced.

    Args:
        parts: Paths relative to both folders, files or folders.
    """
    for index, part in enumerate(parts):
        target = out / part
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            target.rename(stage / f"replaced-{index}")
        (stage / part).rename(target)
