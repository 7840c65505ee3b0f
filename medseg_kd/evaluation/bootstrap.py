"""Intervals of the means of a test set, from drawing its cases again and again."""

import numpy as np

RESAMPLES = 9999
"""Bootstrap samples behind an interval."""

FEW = 50
"""Cases below which an interval is to be taken with caution."""

MEAN = "mean"
"""Label of the mean over the organs, among their names."""

METHOD = f"Bootstrap over the cases, the same for each organ: {RESAMPLES} samples, percentile method, seed"
CAUTION = f"Caution: with fewer than {FEW} cases such an interval is often too narrow."

Interval = tuple[float, float]


def bootstrap(values: np.ndarray, seed: int) -> list[Interval]:
    """95 % intervals of the mean of each organ, then of the mean over the organs.

    Args:
        values: (cases, organs), at least one case; not-a-number is left out of each mean.
        seed: of the cases that are drawn.

    Returns:
        An interval for each organ, and one more; not-a-number where an organ has no value.
    """
    cases = len(values)
    drawn = np.random.default_rng(seed).multinomial(cases, np.full(cases, 1 / cases), RESAMPLES).astype(float)
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        means = drawn @ np.where(known, values, 0.0) / (drawn @ known)
    counted = ~np.isnan(means)
    with np.errstate(invalid="ignore"):
        overall = np.where(counted, means, 0.0).sum(axis=1) / counted.sum(axis=1)
    columns = (column[~np.isnan(column)] for column in (*means.T, overall))
    return [(*np.percentile(each, [2.5, 97.5]).tolist(),) if len(each) else (np.nan, np.nan) for each in columns]
