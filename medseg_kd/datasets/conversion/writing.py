"""Data folders in the TransUNet layout with a manifest: written in full or not at all."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, TypeVar

import numpy as np

from medseg_kd import __version__
from medseg_kd.datasets.formats.transunet import FOLDERS, LIST_FILES, LISTS, write_case, write_list
from medseg_kd.datasets.manifest import NAME, read_manifest, write_manifest
from medseg_kd.datasets.spec import DataSpec
from medseg_kd.datasets.volumes import ORIENTATION
from medseg_kd.errors import UserError
from medseg_kd.progress import progress

_Source = TypeVar("_Source")


class Volume(NamedTuple):
    """A case that is to be written.

    Args:
        case: Its name.
        image: (S, H, W) float32 in [0, 1].
        label: (S, H, W) classes.
        attributes: Of the file; at least ``spacing``, mm, (z, y, x).
        said: What the manifest says of it beside its size and its files.
    """

    case: str
    image: np.ndarray
    label: np.ndarray
    attributes: dict[str, Any]
    said: dict[str, Any]


def own_manifest(out: Path, synthetic: bool = False) -> dict[str, Any] | None:
    """The manifest of a folder that may be written to; None where nothing is there.

    Raises:
        UserError: It holds other data, or is no folder.
    """
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out} is a file: expected a folder.")
    if not out.exists() or not any(out.iterdir()):
        return None
    manifest = read_manifest(out)
    if manifest is None or "splits" not in manifest or bool(manifest.get("synthetic")) != synthetic:
        raise UserError(f"--out {out} holds other data: choose a new or an empty folder.")
    return manifest


def write_folder(
    out: Path,
    work: Sequence[tuple[str, _Source]],
    read: Callable[[_Source], Volume],
    spec: DataSpec,
    tool: str,
    said: Mapping[str, Any],
    before: Mapping[str, Any],
    readme: str | None = None,
) -> dict[str, Any]:
    """Write the cases of whole splits; other splits in the folder stay.

    The files are written beside ``out`` and renamed into it at the end, so that a failure leaves ``out`` as it was.

    Args:
        out: Data folder, to be given as ``data_root``.
        work: Split and source of each case.
        read: Makes the case of a source.
        spec: What the images are.
        tool: Name of the calling tool, for the manifest.
        said: What else the manifest says.
        before: Manifest of what is in the folder and stays.
        readme: Text of a ``README.txt``.

    Returns:
        The manifest.

    Raises:
        UserError: The folder cannot be written; what ``read`` raises.
    """
    written: dict[str, dict[str, Any]] = {split: {} for split, _ in work}
    manifest = {
        **before,
        "format": "TransUNet",
        "tool": f"medseg_kd {__version__} {tool}",
        "orientation": f"{ORIENTATION}; arrays (slice, row, column); spacing in mm, (z, y, x)",
        **said,
        "classes": list(spec.classes),
        "spec": spec.to_json(),
        "splits": {**before.get("splits", {}), **written},
    }
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent, ignore_cleanup_errors=True) as folder:
            stage = Path(folder)
            for split, source in progress(work, f"writing {out}"):
                volume = read(source)
                written[split][volume.case] = _write(stage, split, volume, spec)
            parts = [Path(NAME)]
            for split, cases in written.items():
                write_list(stage, split, [file for case in cases.values() for file in case["files"]])
                parts = [Path(FOLDERS[split]), LISTS / LIST_FILES[split], *parts]
            if readme:
                (stage / "README.txt").write_text(readme)
                parts.insert(0, Path("README.txt"))
            write_manifest(stage, manifest)
            _publish(stage, out, parts)
    except OSError as error:
        raise UserError(f"could not write {out}: {error}") from error
    return manifest


def _write(stage: Path, split: str, volume: Volume, spec: DataSpec) -> dict[str, Any]:
    """Write a case; what the manifest says of it."""
    return {
        "slices": len(volume.label),
        "shape": list(volume.label.shape),
        "spacing": list(volume.attributes["spacing"]),
        "voxels": {name: int((volume.label == value).sum()) for value, name in enumerate(spec.classes)},
        **volume.said,
        "files": write_case(stage, split, volume.case, volume.image, volume.label, volume.attributes),
    }


def _publish(stage: Path, out: Path, parts: Iterable[Path]) -> None:
    """Move files and folders of a stage into ``out``, in this order; what is there already is replaced."""
    for index, part in enumerate(parts):
        target = out / part
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            target.rename(stage / f"replaced-{index}")
        (stage / part).rename(target)
