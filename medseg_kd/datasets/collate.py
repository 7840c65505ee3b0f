"""From items to a batch of tensors."""

from collections.abc import Sequence
from typing import Any

import torch


def collate_slices(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Stack slices.

    Args:
        items: ``inputs`` (C, H, W) float32, ``labels`` (H, W) uint8, ``meta``, and ``soft`` (K, H, W) if any.

    Returns:
        ``inputs`` (N, C, H, W), ``labels`` (N, H, W) and ``soft`` (N, K, H, W), lists of tensors where slices differ in
        size; ``meta``, a list. Items of another form (a pipeline that ends with MMSegmentation's ``PackSegInputs``)
        give lists.
    """
    batch = collate_cases(items)
    for key in ("inputs", "labels", "soft"):
        tensors = batch.get(key)
        if tensors and all(isinstance(each, torch.Tensor) and each.shape == tensors[0].shape for each in tensors):
            batch[key] = torch.stack(tensors)
    return batch


def collate_cases(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Lists of the volumes, labels and meta of cases."""
    return {key: [item[key] for item in items] for key in items[0]}
