"""What every format of a data folder offers, and finding the one that a folder is in."""

import re
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from mmengine.utils.misc import get_object_from_string

from medseg_kd.datasets.integrity import opened, shown
from medseg_kd.datasets.intensities import Intensity, Stored
from medseg_kd.datasets.manifest import NAME, read_manifest, spec_parts
from medseg_kd.datasets.pixels import Pixels, Raw, to_pixels
from medseg_kd.datasets.spec import Channel, DataSpec, combine, parts_of_config
from medseg_kd.datasets.volumes import Header
from medseg_kd.errors import UserError
from medseg_kd.registry import FORMATS, check_arguments

SPLITS = ("train", "val", "test")
KEPT_BYTES = 1 << 30
"""Volumes that a process keeps while it reads their slices."""
_SLICE_NAME = re.compile(r"^(?P<case>.+?)_slice_?(?P<index>\d+)$")


@dataclass(frozen=True)
class Case:
    """One case of a split: a volume, or the files of its slices.

    Args:
        name: The patient.
        size: Number of slices.
        volume: What :meth:`Format.load` takes for the whole case; None where each slice has a file.
        slices: What it takes for each slice, in order.
        indices: Numbers of the slices; empty where they run from 0.
        labelled: Whether there is a label.
        header: Where the voxels of a volume lie, where its file tells.
    """

    name: str
    size: int
    volume: Any = None
    slices: tuple[Any, ...] = ()
    indices: tuple[int, ...] = ()
    labelled: bool = True
    header: Header | None = None

    @classmethod
    def of_slices(cls, name: str, numbered: Iterable[tuple[int, Any]], labelled: bool = True) -> "Case":
        """A case of slices, each given as its number and what :meth:`Format.load` takes; numbers differ."""
        ordered = sorted(numbered, key=lambda each: each[0])
        for (index, one), (following, other) in pairwise(ordered):
            if index == following:
                raise UserError(f"case {name} has slice {index} more than once: {shown(one)} and {shown(other)}")
        indices, sources = zip(*ordered, strict=True)
        return cls(name, len(indices), slices=sources, indices=indices, labelled=labelled)

    def index(self, position: int) -> int:
        """Number of the slice at a position."""
        return self.indices[position] if self.indices else position

    @property
    def holes(self) -> list[int]:
        """Numbers between the first slice and the last that no slice has."""
        return sorted({*range(self.indices[0], self.indices[-1])} - {*self.indices}) if self.indices else []

    def check_whole(self) -> None:
        """Refuse a case with holes, of which a volume is to be made."""
        if self.holes:
            raise UserError(
                f"case {self.name} lacks the slices {', '.join(map(str, self.holes[:8]))}: what is left would be taken "
                "for neighbours. Add them, or leave the case out with dataset.exclude_cases"
            )


class Format:
    """Base of the formats; a new one is a class with :meth:`holds`, :meth:`find` and :meth:`load`.

    Args:
        root: Data folder.

    Attributes:
        name: In configs, ``dataset.format``.
        files: What it looks for, in words, for messages.
        prepared: The files hold what the intensity rules gave.
        channels: Those of images of which nothing else is told.
        order: Place among the formats that ``auto`` tries, lower ones first; equal ones as they were registered.
        spec: What its images are; set by :func:`open_folder`.
        problems: What is wrong with cases that :meth:`find` left out; None where the first is an error.
        with_unlabelled: Among loose files a case may lack its label; False: that is an error.
    """

    name: ClassVar[str]
    files: ClassVar[str]
    prepared: ClassVar[bool] = False
    channels: ClassVar[tuple[Channel, ...]] = ()
    order: ClassVar[int] = 0
    spec: DataSpec
    problems: list[UserError] | None = None
    with_unlabelled = False

    def __init__(self, root: Path) -> None:
        self.root = root
        self._kept: OrderedDict[str, Pixels] = OrderedDict()

    @classmethod
    def holds(cls, root: Path, split: str) -> bool:
        """Whether a folder has a split in this format."""
        raise NotImplementedError

    def find(self, split: str) -> list[Case]:
        """The cases of a split, in order."""
        raise NotImplementedError

    @contextmanager
    def skipping(self) -> Iterator[None]:
        """Around what is looked at of one file or case: where :attr:`problems` are kept, what is wrong is left out."""
        try:
            yield
        except UserError as error:
            if self.problems is None:
                raise
            self.problems.append(error)

    def load(self, source: Any) -> Raw:
        """Read one file (or the files) of a slice or a volume, as :class:`Case` names them."""
        raise NotImplementedError

    def load_image(self, source: Any) -> Raw:
        """The same without its label."""
        return replace(self.load(source), label=None)

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """The folder's manifest; empty where there is none."""
        return read_manifest(self.root) or {}

    def told(self) -> dict[str, Any]:
        """What the folder itself says of its images: some arguments of :class:`DataSpec`; here its manifest's."""
        return spec_parts(self.manifest, str(self.root / NAME))

    def default_intensity(self, channel: str) -> Intensity:
        """The rule of a channel for which neither the config nor the folder has one; an error where it must."""
        return Stored()

    def read_slice(self, case: Case, position: int) -> Pixels:
        """One slice, checked against the spec: image (C, H, W), label (H, W)."""
        if case.volume is None:
            return self._pixels(case.slices[position], 2, case.labelled)
        kept = self._kept
        if case.name not in kept:
            kept[case.name] = self._pixels(case.volume, 3, case.labelled)
            while len(kept) > 1 and sum(each.image.nbytes for each in kept.values()) > KEPT_BYTES:
                kept.popitem(last=False)  # the one not asked for the longest time
        kept.move_to_end(case.name)
        volume = kept[case.name]
        label = None if volume.label is None else volume.label[position]
        return Pixels(volume.image[position], label, volume.spacing, volume.geometry)

    def read_case(self, case: Case) -> Pixels:
        """A whole case, checked against the spec: image (S, C, H, W), label (S, H, W)."""
        if case.volume is not None:
            return self._pixels(case.volume, 3, case.labelled)
        case.check_whole()
        slices = [self._pixels(source, 2, case.labelled) for source in case.slices]
        if len(sizes := {pixels.image.shape for pixels in slices}) > 1:
            raise UserError(f"case {case.name}: its slices differ in size ({sorted(sizes)}); a case needs one size")
        labels = [pixels.label for pixels in slices if pixels.label is not None]
        image = np.stack([pixels.image for pixels in slices])
        return Pixels(image, np.stack(labels) if labels else None, slices[0].spacing)

    def _pixels(self, source: Any, ndim: int, labelled: bool) -> Pixels:
        load = self.load if labelled else self.load_image
        return to_pixels(opened(source, load), self.spec, ndim, shown(source), self.prepared)


def visible(paths: Iterable[Path]) -> list[Path]:
    """Paths in order of their names, without hidden ones (``._case.npz``, ``.DS_Store``)."""
    return sorted(path for path in paths if not path.name.startswith("."))


def numbered(path: Path, case: str | None = None) -> tuple[str, int]:
    """Case and number of a slice; in a folder a case, a number at the end of the name is enough."""
    match = _SLICE_NAME.match(path.stem) or re.search(r"(?P<index>\d+)$", path.stem)
    case = case or (match and match.groupdict().get("case"))
    if not (match and case):
        raise UserError(f"{path}: the name does not tell case and slice; expected <case>_slice<number>{path.suffix}")
    return case, int(match["index"])


def tells_slice(path: Path) -> bool:
    """Whether a name has the form ``<case>_slice<number>``."""
    return bool(_SLICE_NAME.match(path.stem))


def find_format(
    root: str | Path, split: str, name: str | type[Format] = "auto", options: Mapping[str, Any] | None = None
) -> Format:
    """The format of a data folder for a split, without its spec; see :func:`open_folder`."""
    root, options = Path(root), options or {}
    if split not in SPLITS:
        raise UserError(f"dataset.split is {split!r}, expected one of {', '.join(SPLITS)}")
    if not root.is_dir():
        raise UserError(f"data folder not found: {root}. {_HINT}")
    kind = _kind(root, split, name)
    if not isinstance(options, Mapping):
        raise UserError(f"dataset.format_options is {options!r}: expected dict(...), arguments of {kind.__name__}")
    check_arguments(kind, {"root": root, **options}, "dataset.format_options")
    return kind(root, **options)


def open_folder(
    root: str | Path,
    split: str,
    name: str | type[Format] = "auto",
    spec: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
) -> Format:
    """The format of a data folder for a split, with its spec.

    Args:
        name: A format or its name; ``auto`` takes the first that finds its files.
        spec: What the config says of the images; compared with what the folder tells.
        options: Arguments of the format beside the folder.
    """
    found = find_format(root, split, name, options)
    parts = combine(parts_of_config(spec or {}, "dataset.spec"), found.told(), ("dataset.spec", str(root)))
    if found.channels:
        parts.setdefault("channels", found.channels)
    for key, example in (("channels", "dict(CT=dict(type='Window', low=-160, high=240))"), ("classes", "(...)")):
        if key not in parts:
            raise UserError(
                f"{root} does not tell the {key} of its images, and neither does the config: set "
                f"dataset.spec=dict({key}={example}) (docs/data.md)"
            )
    parts["channels"] = tuple(
        Channel(each.name, found.default_intensity(each.name)) if isinstance(each.intensity, Stored) else each
        for each in parts["channels"]
    )
    found.spec = DataSpec(**parts)
    return found


_HINT = (
    "Set *_dataloader.dataset.data_root in the config or pass --data-root. docs/data.md says how to get and prepare "
    "data; `python tools/make_phantom.py --out data/phantom` writes a synthetic stand-in"
)


def _kind(root: Path, split: str, name: str | type[Format]) -> type[Format]:
    """The class of a format: the one that is named, or the first of all that finds its files."""
    FORMATS.import_from_location()
    kinds = {kind.name: kind for kind in sorted(FORMATS.module_dict.values(), key=lambda kind: kind.order)}
    if isinstance(name, str) and "." in name:  # a class, in a config that was written to a file
        name = get_object_from_string(name) or name
    if isinstance(name, type) and issubclass(name, Format):
        wanted = [name]
    elif name in ("auto", *kinds):
        wanted = [*kinds.values()] if name == "auto" else [kinds[name]]
    else:
        raise UserError(f"dataset.format is {name!r}, expected auto, {', '.join(kinds)} or a class")
    for kind in wanted:
        if kind.holds(root, split):
            return kind
    looked = "\n".join(f"  {kind.name}: {kind.files}" for kind in wanted)
    raise UserError(f"{root} holds no {split} split in the format\n{looked}. {_HINT}")
