"""Commands whose output nobody reads any more, or that have none."""

import io
import os
import subprocess
import sys

import pytest

from medseg_kd.cli import run
from tests.cli.commands import ROOT, SHORT

STUDENT = "configs/fcn/fcn_r18_d8_40k_synapse.py"


def _start(script, *words, cwd, **streams):
    command = [sys.executable, str(ROOT / script), *map(str, words)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=cwd, env=environment, **streams)


@pytest.fixture
def words(phantom, tmp_path):
    narrow = [f"model.network.backbone.{key}=8" for key in ("base_channels", "stem_channels")]
    told = ("--data-root", phantom, "--work-dir", tmp_path / "run", "--cfg-options", *SHORT, *narrow)
    return (ROOT / STUDENT, *told, "default_hooks.checkpoint.interval=1000")


def test_a_training_whose_reader_leaves_saves_and_ends_quietly(words, tmp_path):
    process = _start("train.py", *words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    for line in process.stdout:
        if b"[    2/40000]" in line:
            break
    process.stdout.close()
    errors = process.stderr.read().decode()
    assert process.wait(60) == 141
    assert "Traceback" not in errors and "rror" not in errors and "BrokenPipe" not in errors
    assert list((tmp_path / "run").glob("iter_*.pth"))


def test_a_training_without_an_output(words, tmp_path):
    shell = f"exec {sys.executable} {ROOT / 'train.py'} {' '.join(map(str, words))} train_cfg.max_iters=2 >&-"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(["sh", "-c", shell], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr and (tmp_path / "run/iter_2.pth").is_file()


def test_the_help_into_a_pipe_that_closes(tmp_path):
    process = _start("train.py", "--help", cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert not [line for line in process.stderr.read().decode().splitlines() if "Broken" in line or "Trace" in line]
    process.wait(60)


def test_letters_that_the_terminal_lacks(monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    run(lambda: print("bäd"))
    assert written.getvalue().strip() == b"b\\xe4d"
