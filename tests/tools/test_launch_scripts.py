"""The scripts that start several processes pass on what train.py and test.py take."""

import os
import subprocess
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / "tools"
pytestmark = pytest.mark.skipif(os.name == "nt", reason="shell scripts")


def call(tmp_path: Path, script: str, *words: str, **variables: str) -> str:
    """The command that a script ends in, of stand-ins for the programs that it calls."""
    for name in ("python", "srun"):
        (tmp_path / name).write_text('#!/bin/sh\necho "$(basename "$0") $*"\n')
        (tmp_path / name).chmod(0o755)
    surroundings = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", **variables}
    done = subprocess.run([TOOLS / script, *words], env=surroundings, capture_output=True, text=True)
    return done.stdout if done.returncode == 0 else f"{done.returncode} {done.stderr}"


@pytest.mark.parametrize("what", ["train", "test"])
def test_several_gpus_of_a_machine(tmp_path: Path, what: str) -> None:
    said = call(tmp_path, f"dist_{what}.sh", "my config.py", "4", "--cfg-options", "a=1")
    assert said == (
        f"python -m torch.distributed.run --standalone --nproc_per_node 4 {TOOLS}/../{what}.py my config.py "
        "--launcher pytorch --cfg-options a=1\n"
    )
    said = call(tmp_path, f"dist_{what}.sh", "c.py", "8", NNODES="2", NODE_RANK="1", MASTER_ADDR="10.0.0.1")
    assert "--nnodes 2 --node_rank 1 --master_addr 10.0.0.1 --master_port 29500 --nproc_per_node 8" in said
    assert call(tmp_path, f"dist_{what}.sh", "c.py").startswith("2 usage: ")


@pytest.mark.parametrize("what", ["train", "test"])
def test_the_queue_of_a_cluster(tmp_path: Path, what: str) -> None:
    said = call(tmp_path, f"slurm_{what}.sh", "gpu", "job", "c.py", "--amp", GPUS="16", SRUN_ARGS="--qos long")
    assert said == (
        "srun --partition gpu --job-name job --ntasks 16 --ntasks-per-node 8 --gres gpu:8 --cpus-per-task 4 "
        f"--kill-on-bad-exit=1 --qos long python -u {TOOLS}/../{what}.py c.py --launcher slurm --amp\n"
    )
    assert "--ntasks 1 --ntasks-per-node 1 --gres gpu:1" in call(tmp_path, f"slurm_{what}.sh", "gpu", "job", "c.py")
    assert call(tmp_path, f"slurm_{what}.sh", "gpu").startswith("2 usage: ")
