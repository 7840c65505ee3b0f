"""Running the commands as a user does."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SHORT = (
    "train_cfg.val_interval=100",
    "default_hooks.checkpoint.interval=2",
    "default_hooks.logger.interval=1",
    "train_dataloader.num_workers=0",
    "train_dataloader.persistent_workers=False",
    "val_dataloader.num_workers=0",
    "val_dataloader.persistent_workers=False",
    "test_dataloader.num_workers=0",
)


def command(script: str, *arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a script of the repository in ``cwd``; its output as text."""
    return subprocess.run(
        [sys.executable, str(ROOT / script), *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def succeed(script: str, *arguments: object, cwd: Path) -> str:
    """Run a script that must succeed; its output and errors."""
    done = command(script, *arguments, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def fail(script: str, *arguments: object, cwd: Path) -> str:
    """Run a script that must refuse its input with one message and no traceback."""
    done = command(script, *arguments, cwd=cwd)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert done.stderr.strip().splitlines()[-1:] and "error: " in done.stderr
    return done.stderr
