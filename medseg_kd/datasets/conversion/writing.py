"""Data folders in the TransUNet layout with a manifest: written in full or not at all."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, TypeVar

import numpy as np

from medseg_kd import __version__
from medseg_kd.datasets.formats.transunet import FOLDERS, LIST_FILES, LISTS, write_case, write_list
from medseg_kd.datasets.listings import typed
from medseg_kd.datasets.manifest import NAME, read_manifest, write_manifest
from medseg_kd.datasets.spec import DataSpec
from medseg_kd.errors import UserError, WriteError
from medseg_kd.progress import progress

_Source = TypeVar("_Source")


class Volume(NamedTuple):
    """A case for :func:`~medseg_kd.datasets.formats.transunet.write_case`, and what else the manifest says of it."""

    case: str
    image: np.ndarray
    label: np.ndarray
    attributes: dict[str, Any]
    said: dict[str, Any]


def own_manifest(out: Path, synthetic: bool = False) -> dict[str, Any] | None:
    """The manifest of a folder that may be written to; None where nothing is there. Other data are refused."""
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out} is a file: expected a folder.")
    if not out.exists() or not any(out.iterdir()):
        return None
    manifest = read_manifest(out)
    if manifest is None or "splits" not in manifest or bool(manifest.get("synthetic")) != synthetic:
        raise UserError(f"--out {out} holds other data: choose a new or an empty folder.")
    for split, cases in manifest["splits"].items():
        for name, case in cases.items():
            for key, kind in (("slices", int), ("voxels", dict), ("files", dict)):
                typed(case.get(key), kind, f"{out / NAME}: splits: {split}: {name}: {key}")
    return manifest


def write_folder(
    out: Path,
    work: Sequence[tuple[str, _Source]],
    read: Callable[[_Source], Volume],
    spec: DataSpec,
    said: Mapping[str, Any],
    before: Mapping[str, Any],
    readme: str = "",
) -> dict[str, Any]:
    """Write the cases of whole splits; other splits in the folder stay.

    Args:
        work: Split and source of each case.
        read: Makes the case of a source.
        said: What the manifest says beside the cases and the spec.
        before: Manifest of what is in the folder and stays.
        readme: Text of a ``README.txt``.

    Returns:
        The manifest.

    Raises:
        UserError: See :func:`staged`.
    """
    written: dict[str, dict[str, Any]] = {split: {} for split, _ in work}
    manifest = {
        **before,
        "format": "TransUNet",
        "orientation": f"{spec.orientation}; arrays (slice, row, column); spacing in mm, (z, y, x)",
        **said,
        "tool": f"medseg_kd {__version__} {said['tool']}",
        "classes": list(spec.classes),
        "spec": spec.to_json(),
        "splits": {**before.get("splits", {}), **written},
    }
    parts = [*(Path(FOLDERS[split]) for split in written), *(LISTS / LIST_FILES[split] for split in written)]
    with staged(out, [*parts, *[Path("README.txt")] * bool(readme), Path(NAME)]) as stage:
        for split, source in progress(work, f"writing {out}"):
            volume = read(source)
            written[split][volume.case] = _write(stage, split, volume, spec)
        for split, cases in written.items():
            write_list(stage, split, [file for case in cases.values() for file in case["files"]])
        if readme:
            (stage / "README.txt").write_text(readme)
        write_manifest(stage, manifest)
    return manifest


@contextlib.contextmanager
def staged(out: Path, parts: Sequence[Path]) -> Iterator[Path]:
    """A hidden folder in ``out``, of which these parts are moved into ``out`` once all is written.

    They take the place of what has their names; a failure leaves ``out`` as it was.

    Raises:
        UserError: A part would be written through a link.
        WriteError: The disk is full, or the folder cannot be written.
    """
    if linked := [out / parent for part in parts for parent in part.parents[:-1] if (out / parent).is_symlink()]:
        raise UserError(f"{linked[0]} is a link, which is not written through. Remove it, or choose another --out")
    made = not out.exists()
    try:
        out.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".unfinished-", dir=out, ignore_cleanup_errors=True) as folder:
            stage = Path(folder)
            yield stage
            for part in parts:
                (out / part).parent.mkdir(parents=True, exist_ok=True)
                if (out / part).exists():
                    (out / part).rename(stage / f"replaced {part.name}")
                (stage / part).rename(out / part)
        made = False
    except OSError as error:
        raise WriteError(
            f"could not write {out}: {error}. Nothing was kept. Free some disk space, or choose another --out"
        ) from error
    finally:
        if made:
            with contextlib.suppress(OSError):
                out.rmdir()


def _write(stage: Path, split: str, volume: Volume, spec: DataSpec) -> dict[str, Any]:
    """Write a case; what the manifest says of it."""
    label = volume.label
    return {
        "slices": len(label),
        "shape": list(label.shape),
        "spacing": list(volume.attributes["spacing"]),
        "voxels": {name: int((label == value).sum()) for value, name in enumerate(spec.classes)},
        **volume.said,
        "files": write_case(stage, split, volume.case, volume.image, label, volume.attributes),
    }
