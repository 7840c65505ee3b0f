"""Slices that fit into a GPU's memory, the GPU played by numbers."""

import pytest
import torch

from medseg_kd.inference.slice_batch import batch_sizes, fitting, on_cpu, probe

GB = 2**30


@pytest.mark.parametrize(
    ("needed", "free", "slices"),
    [(GB, 40 * GB, 16), (GB, 64 * GB, 32), (GB, 1000 * GB, 64), (GB, 2 * GB, 4), (GB, 0, 4), (0, GB, 64)],
)
def test_half_of_the_free_memory_in_powers_of_two(needed, free, slices):
    assert fitting(needed, free) == slices


def test_batches_of_a_case_have_few_sizes():
    assert batch_sizes(147, 64) == [64, 64, 16, 2, 1]
    assert batch_sizes(64, 64) == [64]
    assert batch_sizes(3, 64) == [2, 1]
    for slices in range(1, 200):
        assert sum(batch_sizes(slices, 32)) == slices
    assert len({size for slices in range(1, 200) for size in batch_sizes(slices, 32)}) == 6


def test_the_probe_counts_what_is_taken_at_the_peak(monkeypatch):
    """The first run takes more, as a search for algorithms does; what the allocator keeps is free again."""
    memory = {"allocated": GB, "peak": GB, "runs": 0}

    def predict():
        memory["runs"] += 1
        memory["peak"] = GB + (4 * GB if memory["runs"] > 1 else 40 * GB)

    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: memory["allocated"])
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 9 * GB)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: memory["peak"])
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: memory.update(peak=GB))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (24 * GB, 80 * GB))
    assert probe(torch.device("cuda"), predict, 4) == 16
    assert memory["runs"] == 2


@pytest.mark.parametrize(("side", "slices"), [(1024, 1), (512, 1), (224, 2), (96, 8), (48, 8)])
def test_slices_on_the_cpu_by_their_size(side, slices):
    assert on_cpu(side * side) == slices
