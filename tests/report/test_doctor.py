"""What the doctor says of machines that lack something; of this one, that all works."""

import importlib
import importlib.metadata
import json
import os
import subprocess
import sys
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config

from medseg_kd.cli import doctor
from medseg_kd.report.doctor import BROKEN, Result, doctor_page, examine, machine, results
from medseg_kd.report.doctor.results import CHECKS

ROOT = Path(__file__).parents[2]


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Result]]:
    """Runs some of the checks."""

    def run(*names: str, cfg: Any = None) -> list[Result]:
        monkeypatch.setattr(results, "CHECKS", {name: CHECKS[name] for name in names})
        return examine(cfg)

    return run


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Versions of packages in place of those that are installed."""
    versions: dict[str, str] = {}

    def version(package: str) -> str:
        if package not in versions:
            raise importlib.metadata.PackageNotFoundError(package)
        return versions[package]

    monkeypatch.setattr(importlib.metadata, "version", version)
    return versions


def refuse(monkeypatch: pytest.MonkeyPatch, module: str, error: Exception) -> None:
    imported = importlib.import_module

    def import_module(name: str) -> Any:
        if name == module:
            raise error
        return imported(name)

    monkeypatch.setattr(importlib, "import_module", import_module)


def test_originals_beside_their_continuation(only, installed) -> None:
    installed.update({"mmcv-lite": "2.1.0", "onedl-mmcv": "2.3.6", "mmengine": "0.10.4"})
    (found,) = only("namesakes")
    assert found.status == BROKEN and "mmcv-lite beside onedl-mmcv: both are the module mmcv" in found.found
    assert found.remedy == "pip uninstall -y mmcv-lite onedl-mmcv; pip install --no-deps onedl-mmcv==2.3.6"


def test_two_builds_of_opencv(only, installed) -> None:
    installed.update({"opencv-python": "5.0", "opencv-python-headless": "4.9"})
    (found,) = only("namesakes")
    assert found.status == "note" and "pip uninstall -y opencv-python opencv-python-headless" in found.remedy


def test_packages_that_lack_or_do_not_fit(only, installed, monkeypatch) -> None:
    refuse(monkeypatch, "h5py", ImportError("numpy.core.multiarray failed to import"))
    installed.update({"numpy": "2.4.6", "h5py": "3.1.0", "mmcv": "2.1.0"})
    found = {each.found.split()[0]: each for each in only("packages")}
    assert found["h5py"].status == BROKEN and "it was built for NumPy 1" in found["h5py"].found
    assert found["h5py"].remedy == "pip install --upgrade --force-reinstall --no-deps h5py"
    assert found["onedl-mmcv"].found == "onedl-mmcv 2.1.0", "the original will do"


def test_a_torchvision_of_another_build(only, installed, monkeypatch) -> None:
    installed.update(torchvision="0.23.0")
    refuse(monkeypatch, "torchvision", RuntimeError("operator torchvision::nms does not exist"))
    (found,) = only("torchvision")
    assert found.status == BROKEN and "nms" in found.found and "pip uninstall torchvision" in found.remedy


@pytest.mark.parametrize(
    ("architectures", "status"),
    [
        (["sm_80", "sm_90a"], "ok"),
        (["sm_70", "compute_70"], "ok"),
        (["sm_70", "sm_100", "compute_120"], BROKEN),
        (["sm_86"], "ok"),
        (["sm_89"], BROKEN),
    ],
)
def test_a_gpu_that_torch_was_not_built_for(only, monkeypatch, architectures: list[str], status: str) -> None:
    told = dict(is_available=True, device_count=1, get_device_name="A10", get_device_capability=(8, 6))
    told.update(mem_get_info=(1 << 33, 1 << 34), get_arch_list=architectures)
    for name, value in told.items():
        monkeypatch.setattr(torch.cuda, name, lambda *_, value=value: value)
    (found,) = only("devices")
    assert found.status == status and "A10, 8192 of 16384 MB free, sm_86" in found.found
    assert ("built for sm_86" in found.remedy) == (status == BROKEN)


def test_a_gpu_beside_a_torch_for_the_cpu(only, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(machine.shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    (found,) = only("devices")
    assert found.status == "note" and "not +cpu" in found.remedy


def test_a_processor_without_bf16(only, monkeypatch) -> None:
    monkeypatch.setattr("medseg_kd.models.precision.native_dtype", lambda device: torch.float32)
    _, found = only("processor")
    assert found.status == "note" and "emulated" in found.remedy


def test_a_small_machine(only, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda path: namedtuple("Usage", "total free")(1 << 26, 1 << 26))
    monkeypatch.setattr(machine.os, "access", lambda path, mode: False)
    shared, *_, folder = only("limits", cfg=Config(dict(work_dir=str(tmp_path / "a/b"))))
    assert "--shm-size" in shared.remedy and "64 of 64 MB free" in shared.found
    assert folder.status == BROKEN and "a/b" in folder.found and "not writable" in folder.found


def test_data_of_a_config(only, phantom: Path) -> None:
    dataset = dict(type="SliceDataset", data_root=str(phantom))
    (found,) = only("data", cfg=Config(dict(train_dataloader=dict(dataset=dataset))))
    assert found.status == "ok" and "3 cases" in found.found and "transunet" in found.found
    (found,) = only("data", cfg=Config(dict(train_dataloader=dict(dataset={**dataset, "data_root": "nowhere"}))))
    assert found.status == BROKEN and found.found.startswith("data folder not found: nowhere")


def test_what_works_here(only) -> None:
    found = only("python", "training step", "processes", "files")
    assert {each.name for each in found} == {"python", "training step", "processes", "files"}
    assert not [each for each in found if each.status == BROKEN], doctor_page(found)


def test_one_that_fails_hides_no_other(monkeypatch) -> None:
    def first(cfg: Any) -> Any:
        yield "ok", "half", ""
        raise OSError("no such library")

    def second(cfg: Any) -> Any:
        raise ModuleNotFoundError("No module named 'x'")

    monkeypatch.setattr(results, "CHECKS", {"first": (first, "reinstall it"), "second": (second, "")})
    found = examine()
    assert [each.status for each in found] == ["ok", BROKEN, "note"]
    page = doctor_page(found)
    assert "OSError: no such library" in page and "-> reinstall it" in page and page.endswith("1 broken")


def test_the_exit_code(monkeypatch, capsys) -> None:
    monkeypatch.setattr("medseg_kd.report.doctor.examine", lambda cfg: [Result("a", "ok", "fine")])
    doctor.main(["--json"])
    assert json.loads(capsys.readouterr().out) == [{"name": "a", "status": "ok", "found": "fine", "remedy": ""}]
    with pytest.raises(SystemExit) as ended:
        doctor.main(["nowhere.py"])
    assert ended.value.code == 1 and "nowhere.py" in capsys.readouterr().out


def test_nothing_is_installed() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-S", str(ROOT / "tools/doctor.py")]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and not done.stderr
    assert "torch is not installed" in done.stdout and "-> pip install onedl-mmengine" in done.stdout
    assert "ok      python" in done.stdout and "not looked at" in done.stdout


@pytest.mark.full
def test_the_whole_of_this_machine() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, str(ROOT / "tools/doctor.py"), "--json"]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    found = json.loads(done.stdout)
    broken = {each["name"] for each in found if each["status"] == BROKEN}
    assert broken <= {"torchvision"} and done.returncode == len(broken), done.stdout  # another build than PyTorch's
    assert {each["name"] for each in found} >= {"packages", "loading", "training step", "limits"}
