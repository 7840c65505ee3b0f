"""Fixtures for the whole suite."""

import gc
import os
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when PyTorch is imported, here and in the processes of tests

import pytest
import torch
from hypothesis import settings
from mmengine.registry import DefaultScope

from medseg_kd.datasets.phantom import write_phantom

# With more threads than free cores, small operations wait for each other.
torch.set_num_threads(1)
# The same examples in every run, whatever else the machine does.
settings.register_profile("suite", deadline=None, derandomize=True)
settings.load_profile("suite")
ROOT = Path(__file__).parents[1]


def pytest_collection_finish() -> None:
    """MMEngine collects garbage for each data set that it builds: not again among all that was imported."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def no_default_scope() -> Iterator[None]:
    """A runner leaves the scope of its config behind, in which the names of the next test would be looked up."""
    yield
    DefaultScope._instance_dict.clear()


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small phantom: three training and two test cases of 4 slices, 64x64."""
    folder = tmp_path_factory.mktemp("phantom") / "data"
    write_phantom(folder, cases=3, test_cases=2, slices=4, size=64, seed=0)
    return folder
