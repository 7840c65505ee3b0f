"""Networks of the seed and all methods step on a GPU that is not there: one device, no waiting, native precision."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.configs.test_configs import CONFIGS, PAIRS, SEED

ROOT = Path(__file__).parents[2]
STEPPED = [
    *(f"configs/{name}" for name in SEED),
    # Each method, and each pair of networks once.
    *sorted(
        path.relative_to(CONFIGS.parent).as_posix()
        for path in PAIRS
        if "unet_r50_unet_r18" in path.stem or path.parent.name == "reviewkd"
    ),
]


WAITING = """
from mmengine.config import read_base

with read_base():
    from .configs.fcn.fcn_r18_d8_40k_synapse import *

from tests.device.read_back import ReadBack

model.update(losses=[dict(type=ReadBack)])
"""


@pytest.fixture(scope="module")
def waiting(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A config whose step waits."""
    folder = tmp_path_factory.mktemp("waiting")
    (folder / "configs").symlink_to(CONFIGS)
    (folder / "waiting.py").write_text(WAITING)
    return str(folder / "waiting.py")


@pytest.fixture(scope="module")
def found(waiting: str) -> dict[tuple[str, str], dict]:
    """What the steps showed, by config and precision; all in one process, which PyTorch cannot leave as it was."""
    command = [sys.executable, "-m", "tests.device.fake_gpu", *STEPPED, waiting]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1500, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {(line["config"], line["precision"]): line for line in lines}


@pytest.mark.parametrize("precision", ["torch.float32", "torch.bfloat16"])
@pytest.mark.parametrize("config", STEPPED)
def test_a_step_stays_on_the_device(found: dict, config: str, precision: str) -> None:
    step = found[config, precision]
    assert step["waits"] == []
    assert step["preprocessing"] == ["torch.float32"]
    assert step["dtypes"]["student"] == [precision]
    assert step["dtypes"].get("teacher", [precision]) == [precision]
    assert ("teacher" in step["dtypes"]) == ("/distill/" in config)


def test_waiting_is_seen(found: dict, waiting: str) -> None:
    assert any("_local_scalar_dense" in line for line in found[waiting, "torch.float32"]["waits"])


def test_all_methods_are_stepped() -> None:
    assert {Path(name).parent.name.lower() for name in STEPPED if "/distill/" in name} == {
        *("kd", "at", "dkd", "dist", "cwd", "reviewkd")
    }
