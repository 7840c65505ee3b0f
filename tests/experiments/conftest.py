"""Slurm, started once for the tests of a module."""

from collections.abc import Iterator

import pytest

from tests.experiments.slurm_cluster import slurm


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """A real Slurm of one node."""
    with slurm():
        yield
