"""MMRazor and MedPy are extras: without them everything is imported and trains; asked for, they are named.

A training waits for no package that its config does not ask for.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import benchmark_evaluate
from medseg_kd.errors import UserError
from tests.cli.commands import ROOT, SHORT

PAIR = "configs/demo/cwd_unet_r18_phantom.py"
OPTIONS = ("--cfg-options", *SHORT, "train_cfg.max_iters=2", "model.teacher_ckpt=None")
WITHOUT = """
import sys
ABSENT = ("mmrazor", "medpy", "segmentation_models_pytorch", "timm", "dynamic_network_architectures")

class Absent:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in ABSENT:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent)
"""
IMPORT_ALL = """
from importlib import import_module
from pkgutil import walk_packages
import medseg_kd
names = [module.name for module in walk_packages(medseg_kd.__path__, "medseg_kd.")]
for name in names:
    import_module(name)
print(len(names), [name for name in sys.modules if name.partition(".")[0] in ABSENT])
"""
# Nor what is installed and takes seconds to import: this training uses none of it.
TRAIN = """
ABSENT += ("monai", "matplotlib", "pydicom", "nibabel", "mlflow")
from medseg_kd.cli import run
from medseg_kd.cli.train import main
run(main)
"""


def python(code: str, *arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run code in a process that has neither package."""
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", WITHOUT + code, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_every_module_is_imported_without_them(tmp_path):
    done = python(IMPORT_ALL, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    count, loaded = done.stdout.split(maxsplit=1)
    assert int(count) > 100 and loaded.strip() == "[]"


def test_what_mmsegmentation_has_no_package_for_is_not_told(tmp_path):
    code = "from medseg_kd.registry import TRANSFORMS\nprint(TRANSFORMS.get('CLAHE').__name__)"
    assert python(code, cwd=tmp_path).stdout == "CLAHE\n"


def test_a_distillation_trains_without_them_and_a_loss_of_mmrazor_is_one_message(phantom, tmp_path):
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    done = python(TRAIN, PAIR, "--data-root", phantom, "--work-dir", tmp_path / "run", *OPTIONS, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "run/iter_2.pth").is_file() and "distill.loss_cwd" in done.stdout + done.stderr
    (tmp_path / "asks.py").write_text(
        "from mmengine.config import read_base\n\nwith read_base():\n"
        "    from .configs.demo.unet_r18_phantom import *\n\n"
        "model = dict(type='SingleTeacherDistill', architecture=model, teacher=model, distiller=dict(\n"
        "    type='ConfigurableDistiller', distill_losses=dict(loss_kl=dict(type='mmrazor.KLDivergence'))))\n"
    )
    done = python(TRAIN, "asks.py", "--data-root", phantom, "--work-dir", tmp_path / "asks", cwd=tmp_path)
    assert done.returncode == 2 and "Traceback" not in done.stdout + done.stderr
    message = "mmrazor.KLDivergence: MMRazor is not installed. pip install mmrazor==1.0.0"
    assert done.stderr.strip().splitlines()[-1].endswith(message) and done.stderr.count("pip install") == 1


def test_the_benchmark_says_how_to_install_medpy(monkeypatch):
    monkeypatch.setitem(sys.modules, "medpy.metric", None)
    with pytest.raises(UserError, match=r"the method medpy: .*\. pip install medpy"):
        benchmark_evaluate.medpy(*benchmark_evaluate.synthetic_case((8, 24, 24), 1), 1)


def test_setup_names_them_as_extras():
    text = (ROOT / "setup.py").read_text(encoding="utf-8")
    needed, extras = text.split("extras_require=")
    for package in ("mmrazor", "medpy"):
        assert f'"{package}' not in needed and f'"{package}": ["{package}' in extras
        assert f"\n{package}==" in (ROOT / "requirements.txt").read_text(encoding="utf-8")
