"""Batches gathered from decoded slices: no worker, no file, and on a GPU no copy to it."""

from pathlib import Path
from typing import Any

import torch
from mmengine.logging import print_log
from torch.utils.data import DataLoader, Dataset

from medseg_kd.datasets.cache import SliceCache, open_cache
from medseg_kd.datasets.datasets import SliceDataset
from medseg_kd.errors import UserError


class CachedSlices(Dataset):
    """A data set whose batches come from its cache, as :func:`~medseg_kd.datasets.collate_slices` would make them.

    Args:
        dataset: The data set.
        cache: Its slices.

    Attributes:
        dataset: The data set, whose other attributes (``spec``, ``metainfo``, ``case_names``) are found here too.
    """

    def __init__(self, dataset: SliceDataset, cache: SliceCache) -> None:
        self.dataset = dataset
        self._cache = cache
        self._stacks = torch.tensor([dataset.neighbours_of(index) for index in range(len(dataset))])
        infos = [*map(dataset.get_data_info, range(len(dataset)))]
        self._meta = [
            {**{key: info[key] for key in ("case_name", "slice_index")}, "ori_shape": cache.shapes[index]}
            for index, info in enumerate(infos)
        ]
        self._soft_places = torch.tensor([*map(dataset.soft.place, infos)] if dataset.soft else [])

    def __len__(self) -> int:
        return len(self.dataset)

    def __getattr__(self, name: str) -> Any:
        if name == "dataset":  # while a copy is made
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __getitem__(self, index: int) -> dict[str, Any]:
        batch = self.__getitems__([index])
        return {key: value[0] for key, value in batch.items()}

    def __getitems__(self, indices: list[int]) -> dict[str, Any]:
        """A whole batch: ``inputs`` (N, C, H, W) float32, ``labels`` (N, H, W) uint8, ``meta``, and ``soft`` if any."""
        images, labels = self._cache.gather(self._stacks[indices])
        batch = {"inputs": images, "labels": labels, "meta": [dict(self._meta[index]) for index in indices]}
        if self.dataset.soft is not None:
            batch["soft"] = self._cache.gather_soft(self._soft_places[indices])
        return batch


def cached_loader(loader: DataLoader, device: torch.device) -> DataLoader:
    """A loader that gathers the same batches from decoded slices, where its data set asks for that.

    Args:
        loader: A loader; its sampler and its batches stay.
        device: Where training runs.

    Returns:
        The loader itself where its data set is none of slices, or cannot be cached.

    Raises:
        UserError: A file cannot be read, or ``cache='device'`` and the slices do not fit there.
    """
    dataset = loader.dataset
    # The neighbours of a slice lie beside it where all slices of the cases are there, but not in a part of them.
    if not isinstance(dataset, SliceDataset) or dataset.cache is None or not dataset.is_whole:
        return loader
    folder = Path(dataset.cache_dir) if dataset.cache_dir else None
    soft = None if dataset.soft is None else dataset.soft.tensor
    cache = open_cache(dataset, folder, loader.num_workers, soft)
    if cache is None:
        return loader
    if dataset.cache != "host":
        _bring(cache, device, dataset.cache == "device")
    batches: dict[str, Any] = (
        dict(batch_sampler=loader.batch_sampler)
        if loader.batch_size is None
        else dict(batch_size=loader.batch_size, sampler=loader.sampler, drop_last=loader.drop_last)
    )
    return DataLoader(CachedSlices(dataset, cache), collate_fn=_as_it_is, **batches)


def _bring(cache: SliceCache, device: torch.device, wanted: bool) -> None:
    """Bring the slices to a GPU, where they fit or it is wanted."""
    if device.type != "cuda":
        if wanted:
            raise UserError(f"dataset.cache is 'device', but training runs on the {device.type}: take auto or host")
        return
    free, _ = torch.cuda.mem_get_info(device)
    if wanted and cache.nbytes > free:
        raise UserError(
            f"dataset.cache is 'device', but the slices take {cache.nbytes >> 20} MB and {free >> 20} MB are free: "
            "take auto or host"
        )
    if wanted or cache.nbytes <= free // 4:
        cache.to(device)
        print_log(f"slices stay on {device}: {cache.nbytes >> 20} MB, {free >> 20} MB were free", "current")


def _as_it_is(batch: Any) -> Any:
    """What ``__getitems__`` gave is collated already."""
    return batch
