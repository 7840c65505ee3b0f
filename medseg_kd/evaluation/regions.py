"""What is scored of a label: pixels that are not to be ignored, and regions that are made of several classes."""

from collections.abc import Sequence

import numpy as np

from ..errors import UserError


def without_ignored(pred: np.ndarray, truth: np.ndarray, ignore_label: int) -> tuple[np.ndarray, np.ndarray]:
    """Both labels with background where the truth is to be ignored, as nnU-Net leaves those voxels out of its counts.

    Args:
        pred: (S, H, W) labels.
        truth: The same shape.
        ignore_label: Value of the truth where nothing is known.
    """
    if pred.shape != truth.shape or not (ignored := truth == ignore_label).any():
        return pred, truth
    return np.where(ignored, 0, pred), np.where(ignored, 0, truth)


def region_of(labels: np.ndarray, members: Sequence[int], num_classes: int, name: str) -> np.ndarray:
    """The mask of a region, uint8, of labels in 0..num_classes-1.

    Args:
        labels: (S, H, W) class values.
        members: Classes of the region.
        num_classes: Classes with background.
        name: Of the labels, for messages.

    Raises:
        UserError: A value lies outside the classes.
    """
    if labels.size and not 0 <= labels.min() <= labels.max() < num_classes:
        raise UserError(f"{name} holds values from {labels.min()} to {labels.max()}: expected 0..{num_classes - 1}")
    table = np.zeros(num_classes, np.uint8)
    table[list(members)] = 1
    return table[labels]
