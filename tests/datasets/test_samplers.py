"""The endless sampler: every slice once a pass, and any place reached at once."""

import itertools
from types import SimpleNamespace
from unittest import mock

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmengine.runner import IterBasedTrainLoop
from torch.utils.data import DataLoader

from medseg_kd.datasets import SeededSampler, samplers
from medseg_kd.registry import DATA_SAMPLERS


def take(sampler: SeededSampler, count: int) -> list[int]:
    """The first indices of a sampler."""
    return list(itertools.islice(sampler, count))


@given(size=st.integers(1, 30), seed=st.integers(0, 2**32 - 1), passes=st.integers(1, 4))
def test_each_pass_is_a_permutation(size: int, seed: int, passes: int) -> None:
    indices = take(SeededSampler(range(size), seed=seed), size * passes)
    for start in range(0, size * passes, size):
        assert sorted(indices[start : start + size]) == list(range(size))


@given(size=st.integers(1, 30), seed=st.integers(0, 2**32 - 1), start=st.integers(0, 100))
def test_skip_goes_where_an_unstopped_run_would_be(size: int, seed: int, start: int) -> None:
    whole = take(SeededSampler(range(size), seed=seed), start + 40)
    resumed = SeededSampler(range(size), seed=seed)
    resumed.skip(start)
    assert take(resumed, 40) == whole[start:]


def test_skip_counts_from_the_very_first_index() -> None:
    sampler = SeededSampler(range(7), seed=1)
    whole = take(sampler, 30)
    sampler.skip(20)
    sampler.skip(5)
    assert take(sampler, 10) == whole[5:15]


def test_skip_replays_no_earlier_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    order = SeededSampler._order
    monkeypatch.setattr(SeededSampler, "_order", lambda self, passed: drawn.append(passed) or order(self, passed))
    sampler = SeededSampler(range(10), seed=0)
    sampler.skip(10_000_005)
    take(sampler, 6)
    assert drawn == [1_000_000, 1_000_001]


def test_passes_and_seeds_differ() -> None:
    indices = take(SeededSampler(range(50), seed=3), 100)
    assert indices[:50] != indices[50:]
    assert indices[:50] != take(SeededSampler(range(50), seed=4), 50)
    assert indices == take(SeededSampler(range(50), seed=3), 100)


def test_global_random_state_is_neither_used_nor_changed() -> None:
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first = take(SeededSampler(range(20), seed=5), 40)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(99)
    assert take(SeededSampler(range(20), seed=5), 40) == first


def test_without_shuffle() -> None:
    assert take(SeededSampler(range(3), shuffle=False, seed=0), 7) == [0, 1, 2, 0, 1, 2, 0]


@pytest.mark.parametrize("skipped", [0, 9])
def test_processes_share_a_pass(monkeypatch: pytest.MonkeyPatch, skipped: int) -> None:
    alone = take(SeededSampler(range(12), seed=2), 100)
    ranks = []
    for rank in range(3):
        monkeypatch.setattr(samplers, "get_dist_info", lambda rank=rank: (rank, 3))
        sampler = SeededSampler(range(12), seed=2)
        sampler.skip(skipped)
        ranks.append(take(sampler, 8))
    together = [index for turn in zip(*ranks, strict=True) for index in turn]
    assert together == alone[3 * skipped : 3 * skipped + 24]
    if not skipped:
        assert sorted(together[:12]) == sorted(together[12:]) == list(range(12))


@pytest.mark.parametrize("workers", [0, 2])
def test_resumed_loader_gives_the_same_batches(workers: int) -> None:
    def batches(start: int, count: int) -> list[list[int]]:
        sampler = DATA_SAMPLERS.build(dict(type="SeededSampler", seed=8), default_args=dict(dataset=range(11)))
        sampler.skip(start * 4)
        loader = DataLoader(range(11), batch_size=4, sampler=sampler, num_workers=workers)
        return [batch.tolist() for batch in itertools.islice(loader, count)]

    assert batches(6, 4) == batches(0, 10)[6:]


class Loaded(list):
    """A data set that keeps what was read from it."""

    def __init__(self, size: int) -> None:
        super().__init__(range(size))
        self.read: list[int] = []

    def __getitem__(self, index: int) -> int:
        self.read.append(index)
        return index


@pytest.mark.parametrize("workers", [0, 1])
def test_training_loop_of_mmengine_resumes_where_it_stopped(workers: int) -> None:
    def train(done: int) -> tuple[list[list[int]], list[int]]:
        seen: list[list[int]] = []
        model = mock.Mock(train_step=lambda batch, optim_wrapper: seen.append(batch.tolist()))
        runner = SimpleNamespace(
            model=model, call_hook=mock.Mock(), visualizer=mock.Mock(), val_loop=None, optim_wrapper=None
        )
        data = Loaded(7)
        loader = DataLoader(data, batch_size=2, sampler=SeededSampler(data, seed=8), num_workers=workers)
        loop = IterBasedTrainLoop(runner, loader, max_iters=12)
        loop._iter = done  # as Runner.resume does
        loop.run()
        return seen, data.read

    whole, _ = train(0)
    resumed, read = train(9)
    assert len(whole) == 12 and resumed == whole[9:]
    if not workers:
        assert read == [index for batch in resumed for index in batch]


def test_interface_of_mmengine() -> None:
    sampler = SeededSampler(range(6))
    assert len(sampler) == 6
    before = take(sampler, 12)
    sampler.set_epoch(3)
    assert take(sampler, 12) == before
    with pytest.raises(ValueError, match="-1, expected 0 or more"):
        sampler.skip(-1)
