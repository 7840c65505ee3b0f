"""The intensity rules that a config leaves open, where a trained nnU-Net is its model or teaches it."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from medseg_kd.datasets.formats.base import find_format
from medseg_kd.datasets.intensities import NoNormalization, Stored
from medseg_kd.datasets.nnunet_plans import planned_rules, results_spec, with_rules
from medseg_kd.errors import UserError
from medseg_kd.models.nnunet_segmentor import NnUNetSegmentor, check_results
from medseg_kd.registry import MODELS, found


def take_rules(model: Any, datasets: list[Any]) -> None:
    """Give data sets the rules of the nnU-Net that teaches, where neither the config nor their folder has any.

    Where nnU-Net is the model itself, they get none (:class:`NoNormalization`): it scales whole cases by itself.

    Args:
        model: Config of a model.
        datasets: Configs of data sets, which are changed.

    Raises:
        UserError: The results folder cannot be read.
    """
    told = next(_results_in(model), None)
    open_ones = [dataset for dataset in datasets if _leaves_open(dataset)] if told else []
    if not told or not open_ones:
        return
    results = Path(told["results"])
    check_results(results)
    rules, plan = planned_rules(results / "plans.json", results.name.split("__")[-1] if "__" in results.name else "2d")
    spec = with_rules(results_spec(results), rules, plan.where)
    for dataset in open_ones:
        channels = [(c.name, NoNormalization() if told is model else c.intensity) for c in spec.channels]
        dataset["spec"] = {**(dataset.get("spec") or {}), "channels": [(n, rule.to_json()) for n, rule in channels]}


def _results_in(model: Any) -> Iterator[Mapping[str, Any]]:
    """The configs of trained nnU-Nets in that of a model: itself, its teacher or teachers."""
    teachers = [each.get("model") for each in model.get("teachers") or () if isinstance(each, Mapping)]
    for each in (model, model.get("teacher"), *teachers):
        if isinstance(each, Mapping) and "results" in each and found(MODELS, each.get("type")) is NnUNetSegmentor:
            yield each


def _leaves_open(dataset: Any) -> bool:
    """Whether nothing says by which rules the channels of a data set are scaled; False where it cannot be looked at."""
    if (dataset.get("spec") or {}).get("channels") or "data_root" not in dataset:
        return False
    with suppress(UserError):  # told when the data set is built
        split, name = dataset.get("split", "train"), dataset.get("layout") or dataset.get("format", "auto")
        reader = find_format(dataset["data_root"], split, name, dataset.get("format_options"))
        channels = reader.told().get("channels", reader.channels)
        return not reader.prepared and all(isinstance(channel.intensity, Stored) for channel in channels)
    return False
