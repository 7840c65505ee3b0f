"""The configs are found in a clone and in a wheel."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from medseg_kd import __version__
from medseg_kd import configs_dir as module
from medseg_kd.configs_dir import configs_dir
from medseg_kd.errors import UserError

ROOT = Path(__file__).parents[1]


def test_a_clone_uses_its_own_configs() -> None:
    assert configs_dir() == ROOT / "configs"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a wheel unpacks to."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "setup.py", "-q", "build_py", "--build-lib", folder], cwd=ROOT, check=True)
    return folder


def test_a_wheel_holds_every_config(wheel: Path) -> None:
    script = "from medseg_kd.configs_dir import configs_dir; print(configs_dir())"
    found = subprocess.run([sys.executable, "-c", script], cwd=wheel, check=True, capture_output=True, text=True)
    packaged = Path(found.stdout.strip())
    assert packaged == wheel / "medseg_kd" / "configs"
    names = [
        sorted(path.relative_to(folder) for path in folder.rglob("*.py")) for folder in (packaged, ROOT / "configs")
    ]
    assert names[0] == names[1] != []
    assert (wheel / "medseg_kd/datasets/conversion/known/kvasir_seg.json").is_file()
    assert (wheel / "medseg_kd/report/page/templates/page.html").is_file()


@pytest.mark.full
def test_a_wheel_trains_tests_and_predicts_in_any_folder(wheel: Path, tmp_path: Path) -> None:
    config, short = "configs/demo/unet_r18_phantom.py", "--cfg-options train_cfg.max_iters=2"
    for line in (
        "phantom --out data/phantom --cases 3 --test-cases 1 --slices 4 --size 64",
        f"train {config} {short}",
        f"test {config}",
        "predict work_dirs/unet_r18_phantom data/phantom/test_vol_h5 --out masks",
    ):
        subprocess.run(
            [sys.executable, "-c", "from medseg_kd.cli.commands import entry; entry()", *line.split()],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(wheel)},
            check=True,
        )
    assert [path.name for path in tmp_path.glob("masks/*.nii.gz")] == ["case0004.nii.gz"]
    assert (tmp_path / "work_dirs/unet_r18_phantom/report.html").is_file()


def test_missing_configs_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "__file__", str(tmp_path / "medseg_kd" / "configs_dir.py"))
    with pytest.raises(UserError, match="configs of medseg_kd are missing"):
        configs_dir()


def test_the_version_is_said_alike_and_what_is_tested_is_what_is_claimed() -> None:
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == __version__
    assert re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE).group(1) == __version__
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]
    lowest, highest = map(int, re.search(r"range\((\d+), (\d+)\)", (ROOT / "setup.py").read_text()).groups())
    assert jobs["test"]["strategy"]["matrix"]["python"] == [f"3.{minor}" for minor in range(lowest, highest)]
