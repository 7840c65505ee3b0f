"""Slices to train on, cases to test on."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from mmengine.dataset import BaseDataset

from medseg_kd.datasets.conversion.label_maps import SYNAPSE_CLASSES
from medseg_kd.datasets.conversion.manifest import read_manifest
from medseg_kd.datasets.layouts import find_cases, find_slices, select_cases
from medseg_kd.datasets.transforms import LoadCase, LoadSlice, PackSlice
from medseg_kd.registry import DATASETS, TRANSFORMS


class _FolderDataset(BaseDataset):
    """What slices and cases share: a data folder, a split of it, a choice of cases.

    Args:
        data_root: Data folder, in either layout of :mod:`medseg_kd.datasets.layouts`.
        split: ``train`` or ``test``.
        layout: ``transunet``, ``images`` or ``auto``.
        cases: Only these; None takes all.
        exclude_cases: Not these.
        pipeline: Transforms or their configs; None takes the usual ones. A name of MMSegmentation's carries its scope,
            as in ``type='mmseg.RandomRotFlip'``.
        metainfo: ``classes``, the class names with background first.
    """

    METAINFO = dict(classes=SYNAPSE_CLASSES)
    default_pipeline: tuple[dict[str, Any], ...] = ()

    def __init__(
        self,
        data_root: str,
        split: str = "train",
        layout: str = "auto",
        cases: Sequence[str] | None = None,
        exclude_cases: Sequence[str] = (),
        pipeline: Sequence[dict[str, Any] | Callable[[dict[str, Any]], Any]] | None = None,
        metainfo: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        self.split = split
        self.layout = layout
        self.cases = cases
        self.exclude_cases = exclude_cases
        # Built here, so that names of this project's and MMSegmentation's transforms need no default scope.
        transforms = [
            TRANSFORMS.build(dict(step)) if isinstance(step, dict) else step
            for step in pipeline or self.default_pipeline
        ]
        super().__init__(
            data_root=data_root,
            metainfo=metainfo,
            data_prefix={},
            pipeline=transforms,
            **kwargs,
        )
        manifest = read_manifest(Path(data_root)) or {}
        if manifest.get("synthetic"):
            self._metainfo["note"] = manifest["note"]

    def _chosen(self, names: Iterable[str]) -> set[str]:
        """The names among a folder's cases that this dataset takes."""
        return select_cases(names, self.cases, self.exclude_cases, self.data_root)


@DATASETS.register_module()
class SliceDataset(_FolderDataset):
    """Slices with labels: ``inputs`` (1, H, W) float32 in [0, 1], ``data_samples`` with ``gt_sem_seg`` (1, H, W)."""

    default_pipeline = (dict(type=LoadSlice), dict(type=PackSlice))

    def load_data_list(self) -> list[dict[str, Any]]:
        """One entry a slice."""
        slices = find_slices(self.data_root, self.split, self.layout)
        chosen = self._chosen([item.case for item in slices])
        num_classes = len(self.metainfo["classes"])
        return [
            dict(slice=item, case_name=item.case, slice_index=item.index, num_classes=num_classes)
            for item in slices
            if item.case in chosen
        ]


@DATASETS.register_module()
class CaseDataset(_FolderDataset):
    """Whole cases, one an item; see :class:`LoadCase`. ``split='train'`` stacks training slices into cases."""

    default_pipeline = (dict(type=LoadCase),)

    def __init__(self, data_root: str, split: str = "test", test_mode: bool = True, **kwargs: Any) -> None:
        super().__init__(data_root, split, test_mode=test_mode, **kwargs)

    def load_data_list(self) -> list[dict[str, Any]]:
        """One entry a case."""
        cases = find_cases(self.data_root, self.split, self.layout)
        chosen = self._chosen(cases)
        num_classes = len(self.metainfo["classes"])
        return [
            dict(case_name=name, source=source, num_classes=num_classes)
            for name, source in cases.items()
            if name in chosen
        ]
