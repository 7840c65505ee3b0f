"""Published data sets: from their downloads to folders to train on, split as papers split them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from medseg_kd.datasets.conversion.known import acdc, isic2018, kvasir_seg
from medseg_kd.datasets.conversion.known.download import Download
from medseg_kd.errors import UserError, some


class Known(NamedTuple):
    """A published data set.

    Attributes:
        splits: Names of the ways in which it is split; the first is taken where none is named.
        find: Raw folder and name of a split to what is there.
        convert: What is there, the folder to write, whether to replace what is in it, and a note, to the manifest.
    """

    splits: tuple[str, ...]
    find: Callable[[Path, str], Download]
    convert: Callable[[Download, Path, bool, str], dict[str, Any]]


KNOWN = {
    "acdc": Known(acdc.SPLITS, acdc.find, acdc.convert),
    "isic2018": Known(isic2018.SPLITS, isic2018.find, isic2018.convert),
    "kvasir-seg": Known(kvasir_seg.SPLITS, kvasir_seg.find, kvasir_seg.convert),
}


def prepare(
    name: str, raw: Path, out: Path, split: str | None = None, allow_missing: bool = False, overwrite: bool = False
) -> dict[str, Any]:
    """Convert the download of a published data set; written whole or not at all.

    Args:
        name: One of ``KNOWN``.
        raw: Its unpacked download.
        out: Data folder to write.
        split: One of its splits.
        allow_missing: Take what is there of an incomplete download; the manifest, and every table that is made on it,
            say so.
        overwrite: Replace what an earlier call wrote.

    Returns:
        The manifest.
    """
    known = KNOWN[name]
    split = split or known.splits[0]
    if split not in known.splits:
        raise UserError(f"--split {split}: expected {' or '.join(known.splits)} for {name}")
    if not raw.is_dir():
        raise UserError(f"--raw {raw} is no folder: expected the unpacked download, see docs/datasets.md")
    found, note = known.find(raw, split), ""
    if found.missing:
        note = f"made on a part of {name}: the download lacks {len(found.missing)} of its parts"
        if not allow_missing:
            raise UserError(
                f"--raw {raw} lacks {some(found.missing)}. Scores on a part do not compare with published ones: unpack "
                "all of the download (docs/datasets.md), or take what is there with --allow-missing"
            )
        if empty := [part for part, pairs in found.splits.items() if not pairs]:
            raise UserError(f"--raw {raw} holds no case of the {' or '.join(empty)} split of {name}, {split}")
    return known.convert(found, out, overwrite, note)
