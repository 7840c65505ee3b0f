"""Endless sampling that can start anywhere."""

import itertools
from collections.abc import Iterator, Sized

import torch
from mmengine.dist import get_dist_info, sync_random_seed
from torch.utils.data import Sampler

from medseg_kd.registry import DATA_SAMPLERS


@DATA_SAMPLERS.register_module()
class SeededSampler(Sampler):
    """An endless shuffle whose k-th index depends on the seed and k alone.

    Pass p visits every slice once, in an order drawn from (seed, p); the processes of a distributed run take turns in
    it. MMEngine's ``InfiniteSampler`` has to draw all earlier passes again to start at a later place. ``seed`` is the
    same on all processes; None agrees on a random one.

    Attributes:
        offset: Places by which a run starts elsewhere that goes on with batches of another size.
    """

    def __init__(self, dataset: Sized, shuffle: bool = True, seed: int | None = None) -> None:
        self.rank, self.world_size = get_dist_info()
        self.size = len(dataset)
        self.shuffle = shuffle
        self.seed = sync_random_seed() if seed is None else seed
        self.start = self.offset = 0

    def skip(self, num_samples: int) -> None:
        """Start at the ``num_samples``-th index of this process (counted from the very first) when next iterated."""
        if num_samples < 0:
            raise ValueError(f"num_samples is {num_samples}, expected 0 or more")
        self.start = num_samples

    def __iter__(self) -> Iterator[int]:
        passed, order = -1, []
        for position in itertools.count(self.offset + self.start * self.world_size + self.rank, self.world_size):
            if position // self.size != passed:
                passed = position // self.size
                order = self._order(passed)
            yield order[position % self.size]

    def _order(self, passed: int) -> list[int]:
        """Order of the slices in a pass."""
        if not self.shuffle:
            return list(range(self.size))
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + passed) % 2**63)
        return torch.randperm(self.size, generator=generator).tolist()

    def __len__(self) -> int:
        """Slices in the dataset."""
        return self.size

    def set_epoch(self, epoch: int) -> None:
        """Nothing to do: passes follow each other without end."""
