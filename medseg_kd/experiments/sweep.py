"""A small grid over config keys, scored on training cases that are held out."""

import itertools
from collections.abc import Sequence
from pathlib import Path

from medseg_kd.configuration import load_run
from medseg_kd.errors import UserError
from medseg_kd.experiments.runs import Run, Settings
from medseg_kd.registry import DATASETS

Point = tuple[str, ...]
"""A value for each key of a sweep."""


def plan_sweep(
    config: str,
    keys: Sequence[str],
    points: Sequence[Point],
    seeds: Sequence[int],
    cases: Sequence[str],
    folder: Path,
    settings: Settings | None = None,
) -> dict[Point, list[Run]]:
    """The runs of a sweep, whose test cases are the held-out ones.

    Args:
        config: The config to train.
        keys: Its keys that are changed.
        points: Their values.
        seeds: Of the runs of each point.
        cases: Training cases to hold out, see :func:`spread_cases`.
        folder: Of all runs.
        settings: What all runs have in common.

    Returns:
        For each point its runs, one a seed.

    Raises:
        UserError: The config has not these keys.
    """
    settings = settings or Settings()
    _check_keys(config, keys, points[0], settings.options)
    names = "[" + ",".join(f"'{case}'" for case in cases) + "]"
    tested = ("test_dataloader.dataset.split=train", f"test_dataloader.dataset.cases={names}")
    runs: dict[Point, list[Run]] = {point: [] for point in points}
    for point, seed in itertools.product(points, seeds):
        given = list(zip(keys, point, strict=True))
        leaves = ",".join(f"{key.split('.')[-1]}={value.replace('/', '-')}" for key, value in given)
        own = [*(f"{key}={value}" for key, value in given), f"randomness.seed={seed}", f"val_cases={names}"]
        runs[point].append(settings.run(config, folder / leaves / f"seed{seed}", own, tested))
    return runs


def spread_cases(config: str, number: int, data_root: str | None = None) -> list[str]:
    """Training cases from the middle of as many equal parts of the sorted list.

    Raises:
        UserError: There are not more cases than that.
    """
    dataset = DATASETS.build(load_run(config, data_root=data_root).train_dataloader.dataset)
    names = sorted(dataset.case_names)
    if not 0 < number < len(names):
        raise UserError(f"--hold-out {number}: {dataset.data_root} has {len(names)} training cases, hold out fewer")
    return [names[(2 * index + 1) * len(names) // (2 * number)] for index in range(number)]


def _check_keys(config: str, keys: Sequence[str], point: Point, options: Sequence[str]) -> None:
    """Refuse keys that the config does not have before anything is trained."""
    known = dict(zip(keys, point, strict=True))
    for option in options:
        key, separator, value = option.partition("=")
        if not separator:
            raise UserError(f"--cfg-options {option}: expected KEY=VALUE")
        known[key] = value
    load_run(config, known)
