"""Two tested runs of a tiny network, on data whose names are Chinese, or would be code in a page."""

import json
import time
from pathlib import Path

import pytest

from medseg_kd.configuration import set_test
from medseg_kd.datasets.phantom import write_phantom
from medseg_kd.engine import Runner
from medseg_kd.report.page.gathering import write_report
from medseg_kd.report.page.labels import KeepLabelsHook
from tests.engine.tiny import tiny_config

HOSTILE = "</script><script>window.hacked=1</script>"
ORGANS = (
    "主动脉",
    HOSTILE,
    "left $kidney_",
    "<img src=x onerror=window.hacked=1>",
    "liver",
    "胰腺",
    "spleen",
    "stomach",
)
CASE = "<b onclick=alert(1)>病例"


def hostile_data(folder: Path) -> Path:
    """Two training cases, and three to test, one of which is called ``CASE``."""
    write_phantom(folder, cases=2, test_cases=3, slices=4, size=48, seed=0)
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    manifest["classes"] = ["background", *ORGANS]
    manifest["spec"]["labels"] = {name: value for value, name in enumerate(manifest["classes"])}
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    listed = next(folder.glob("lists/*/test_vol.txt"))
    listed.write_text(listed.read_text().replace("case0003", CASE), encoding="utf-8")
    (folder / "test_vol_h5/case0003.npy.h5").rename(folder / f"test_vol_h5/{CASE}.npy.h5")
    return folder


def tested(work_dir: Path, data: Path) -> tuple[Runner, KeepLabelsHook]:
    """Train for two iterations and test, all but the report."""
    changes = {
        f"{part}_dataloader.dataset.metainfo": {"classes": ("background", *ORGANS)} for part in ("train", "val", "test")
    }
    cfg = tiny_config(data, work_dir, max_iters=2, **changes)
    Runner.from_cfg(cfg).train()
    time.sleep(1 - time.time() % 1)  # logs lie in folders named by the second: the test has one of its own
    cfg = tiny_config(data, work_dir, **changes)
    metrics = set_test(cfg, work_dir / "iter_2.pth")
    runner, kept = Runner.from_cfg(cfg), KeepLabelsHook(metrics.parent)
    runner.register_hook(kept)
    runner.test()
    return runner, kept


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A teacher and its student, with their pages."""
    home = tmp_path_factory.mktemp("runs")
    data = hostile_data(home / "data")
    folders = [home / "teacher", home / "student <i>"]
    for folder in folders:
        runner, kept = tested(folder, data)
        teacher = dict(teacher=runner.cfg.model, teacher_ckpt=str(folders[0]), distiller=dict(type="CWD", tau=4))
        write_report(runner, kept, teacher if folder != folders[0] else runner.cfg.model, "--tta")
    return folders
