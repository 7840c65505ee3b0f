"""What the data sets of a config read, without building them."""

import inspect
from collections.abc import Mapping
from typing import Any, NamedTuple

from medseg_kd.datasets.choice import Choice
from medseg_kd.datasets.datasets import CaseDataset, SliceDataset, spec_of
from medseg_kd.datasets.formats import Case, Format, open_folder
from medseg_kd.registry import DATASETS


class ConfiguredFolder(NamedTuple):
    """What a data set of a config reads: a split of a folder, and of that all cases or some."""

    reader: Format
    split: str
    choice: Choice

    def find(self) -> list[Case]:
        """Look for the files of these cases."""
        return self.choice.of(self.reader, self.split)


def configured_folders(dataset: Mapping[str, Any]) -> list[ConfiguredFolder]:
    """What the data set that a config describes reads, without looking for its files.

    Args:
        dataset: Config of a data set, or of one that wraps it (``dataset`` or ``datasets``).

    Returns:
        Empty for a data set of another kind.
    """
    kind = dataset.get("type")
    kind = DATASETS.get(kind) if isinstance(kind, str) else kind
    if not (isinstance(kind, type) and issubclass(kind, (SliceDataset, CaseDataset))):
        inner = [dataset["dataset"]] if dataset.get("dataset") else list(dataset.get("datasets") or ())
        return [each for one in inner if isinstance(one, Mapping) for each in configured_folders(one)]
    split = dataset.get("split", inspect.signature(kind).parameters["split"].default)
    name = dataset.get("layout") or dataset.get("format", "auto")
    said = spec_of(dataset.get("spec"), dataset.get("metainfo"))
    reader = open_folder(dataset["data_root"], split, name, said, dataset.get("format_options"))
    choice = Choice(**{key: dataset[key] for key in Choice._fields if key in dataset})
    return [ConfiguredFolder(reader, split, choice)]
