"""The same tiny cases in both layouts of Synapse."""

import gc
from pathlib import Path

import pytest
from synapse_folders import TEST, TRAIN, write_h5, write_images, write_npz

from medseg_kd.datasets.conversion import SYNAPSE_CLASSES
from medseg_kd.datasets.manifest import write_manifest


@pytest.fixture(scope="package", autouse=True)
def quick_collection() -> None:
    """MMEngine collects garbage for every data set that is built; spare it what the imports left."""
    gc.freeze()


@pytest.fixture
def transunet(tmp_path: Path) -> Path:
    """Two training and two test cases in the TransUNet layout, without lists."""
    for case, count in TRAIN.items():
        for index in reversed(range(count)):
            write_npz(tmp_path, case, index)
    for case, count in TEST.items():
        write_h5(tmp_path, case, count)
    write_manifest(tmp_path, {"classes": list(SYNAPSE_CLASSES)})
    return tmp_path


@pytest.fixture(params=[(False, "L", ".png"), (True, "RGB", ".png"), (False, "RGB", ".jpg")], ids=str)
def images(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The same cases as image files: grey or RGB, flat or in folders."""
    folders, mode, suffix = request.param
    for split, cases in (("train", TRAIN), ("val", TEST)):
        write_images(tmp_path, split, cases, folders=folders, mode=mode, suffix=suffix)
    write_manifest(tmp_path, {"classes": list(SYNAPSE_CLASSES)})
    return tmp_path
