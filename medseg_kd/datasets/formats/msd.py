"""Tasks of the Medical Segmentation Decathlon as they are unpacked, ``Task##_Name``: a file for all channels."""

from pathlib import Path
from typing import Any

from medseg_kd.datasets.formats.nifti import Files
from medseg_kd.datasets.formats.nnunet import NNUNet
from medseg_kd.datasets.listings import read_json, split_ending, typed
from medseg_kd.datasets.pixels import Raw
from medseg_kd.datasets.volumes import read_channels, read_label, to_raw
from medseg_kd.errors import UserError
from medseg_kd.registry import FORMATS


@FORMATS.register_module()
class MSD(NNUNet):
    """``dataset.json`` that lists ``training`` (image, label) and ``test``, with ``modality`` and ``labels`` by number.

    Several channels are the fourth axis of an image. Folds and options are those of :class:`NNUNet`; ``test`` has no
    labels. A folder that nnU-Net v1 made of a task has a file a channel, and is left to :class:`NNUNet`.
    """

    name = "msd"
    files = "dataset.json, imagesTr/<case>.nii.gz with all channels, labelsTr/<case>.nii.gz"
    order = -2
    has_test = False

    def __init__(self, root: Path, fold: int | str = 0, unlabelled: bool = False, outside: bool = False) -> None:
        super().__init__(root, fold, unlabelled, outside)
        self.channels_in_file = len(self.channel_names)

    @classmethod
    def holds(cls, root: Path, split: str) -> bool:
        listed = read_json(root / "dataset.json", dict).get("training") if (root / "dataset.json").is_file() else None
        first = listed[0] if isinstance(listed, list) and listed else None
        image = first.get("image") if isinstance(first, dict) else None
        return isinstance(image, str) and (root / image).is_file()

    def load(self, source: Files) -> Raw:
        (image,), label = source
        return to_raw(read_channels(image, self.channels_in_file), None if label is None else read_label(label))

    def _training_files(self) -> dict[str, Files]:
        return self._listed("training")

    def _folder(self, part: str, unlabelled: bool = False) -> dict[str, Files]:
        return self._listed("test")

    def _listed(self, key: str) -> dict[str, Files]:
        """Cases of a list of ``dataset.json``, of images with their labels or of images alone."""
        cases: dict[str, Files] = {}
        for number, entry in enumerate(typed(self.content.get(key), list, f"{self.where}: {key}")):
            where = f"{self.where}: {key}[{number}]"
            with self.skipping():
                told: dict[str, Any] = {"image": entry} if key == "test" else typed(entry, dict, where)
                image = self._path(told.get("image"), where)
                name = split_ending(image.name, (self.ending,))[0]
                if name in cases:
                    raise UserError(f"{where} names the case {name} once more: keep one of them")
                cases[name] = (image,), None if key == "test" else self._path(told.get("label"), where)
        return cases
