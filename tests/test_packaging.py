"""The configs are found in a clone and in a wheel."""

import subprocess
import sys
from pathlib import Path

import pytest

from medseg_kd import configs_dir as module
from medseg_kd.configs_dir import configs_dir
from medseg_kd.errors import UserError

ROOT = Path(__file__).parents[1]


def test_a_clone_uses_its_own_configs() -> None:
    assert configs_dir() == ROOT / "configs"


def test_a_wheel_holds_every_config(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "setup.py", "-q", "build_py", "--build-lib", tmp_path], cwd=ROOT, check=True)
    script = "from medseg_kd.configs_dir import configs_dir; print(configs_dir())"
    found = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True, capture_output=True, text=True)
    packaged = Path(found.stdout.strip())
    assert packaged == tmp_path / "medseg_kd" / "configs"
    names = [
        sorted(path.relative_to(folder) for path in folder.rglob("*.py")) for folder in (packaged, ROOT / "configs")
    ]
    assert names[0] == names[1] != []


def test_missing_configs_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "__file__", str(tmp_path / "medseg_kd" / "configs_dir.py"))
    with pytest.raises(UserError, match="configs of medseg_kd are missing"):
        configs_dir()
