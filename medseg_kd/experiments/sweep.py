"""A small grid over config keys, scored on training cases that are held out."""

from collections.abc import Sequence
from pathlib import Path

from medseg_kd.configuration import load_run, parse_options
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
    """For each point the runs of its seeds, in ``folder``, which are tested on training cases that are held out.

    Raises:
        UserError: The config has not these keys.
    """
    settings = settings or Settings()
    names = "[" + ",".join(f"'{case}'" for case in cases) + "]"
    tested = ("test_dataloader.dataset.split=train", f"test_dataloader.dataset.cases={names}")
    runs: dict[Point, list[Run]] = {}
    for point in points:
        given = list(zip(keys, point, strict=True))
        options = [f"{key}={value}" for key, value in given]
        for seed in seeds:
            load_run(config, parse_options([*settings.options, *options, f"randomness.seed={seed}"]))
        leaves = ",".join(f"{key.rpartition('.')[2]}={value.replace('/', '-')}" for key, value in given)
        runs[point] = []
        for seed in seeds:
            own = (*options, f"randomness.seed={seed}", f"val_cases={names}")
            runs[point].append(Run(config, folder / leaves / f"seed{seed}", settings, own, tested))
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
