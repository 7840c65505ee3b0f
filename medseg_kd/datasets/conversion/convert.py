"""Converting pairs of NIfTI volumes into the splits of a data folder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import SimpleITK as sitk  # noqa: N813

from medseg_kd import __version__
from medseg_kd.datasets.conversion.label_maps import LabelMap, value_counts
from medseg_kd.datasets.conversion.staging import publish, staged
from medseg_kd.datasets.formats.transunet import (
    FOLDERS,
    LIST_FILES,
    LISTS,
    digest,
    write_case,
    write_list,
)
from medseg_kd.datasets.intensities import Window
from medseg_kd.datasets.manifest import NAME, count_classes, read_manifest, write_manifest
from medseg_kd.datasets.pairs import Pair
from medseg_kd.datasets.pixels import Pixels, to_pixels
from medseg_kd.datasets.spec import Channel, DataSpec, unnamed
from medseg_kd.datasets.volumes import ORIENTATION, check_grids, read_label, read_volume
from medseg_kd.errors import UserError
from medseg_kd.progress import progress


@dataclass(frozen=True)
class Recipe:
    """What is done to every volume of a data folder: both splits must share it.

    Args:
        window: Hounsfield units that become 0 and 1.
        label_map: What becomes of the label values.
        classes: Class names; "background" is put first where it is missing. Empty takes the label map's, then the
            folder's own, then numbers.
    """

    window: tuple[float, float]
    label_map: LabelMap
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        Window(*self.window)  # refuses what is none
        if self.classes and self.classes[0].lower() != "background":
            object.__setattr__(self, "classes", ("background", *self.classes))
        if len(set(self.classes)) != len(self.classes):
            raise UserError(f"--classes names a class twice: {', '.join(self.classes)}.")
        if wrong := [name for name in self.classes if not name.strip() or name == "ignore"]:
            raise UserError(f"--classes has {wrong[0]!r}, which is no name of a class.")


def convert(
    splits: Mapping[str, Sequence[Pair]], out: Path, recipe: Recipe, tool: str, overwrite: bool = False
) -> dict[str, Any]:
    """Writes splits in the TransUNet layout, with a manifest; other splits in the folder stay.

    Everything that can be checked without converting is checked first, for all cases. The files are written beside
    ``out`` and renamed into it at the end, so that a failure leaves ``out`` as it was.

    Args:
        splits: Pairs of ``train``, ``test`` or both.
        out: Data folder, to be given as ``data_root``.
        recipe: Window, label map and class names.
        tool: Name of the calling tool, for the manifest.
        overwrite: Replace splits that are already there.

    Returns:
        The manifest.

    Raises:
        UserError: Any input that cannot be used, the folder's other content, a full disk.
    """
    manifest = _existing(out, splits, recipe, overwrite)
    counts = _check(splits, recipe.label_map)
    classes = _class_names(recipe, manifest, counts)
    spec = DataSpec((Channel("CT", Window(*recipe.window)),), tuple(classes), orientation=ORIENTATION)
    manifest |= {
        "format": "TransUNet",
        "tool": f"medseg_kd {__version__} {tool}",
        "orientation": f"{ORIENTATION}; arrays (slice, row, column); spacing in mm, (z, y, x)",
        "window": list(recipe.window),
        "label_map": recipe.label_map.as_dict(),
        "classes": classes,
        "spec": spec.to_json(),
    }
    work = [(split, pair) for split, pairs in splits.items() for pair in pairs]
    written: dict[str, dict[str, Any]] = {split: {} for split in splits}
    try:
        with staged(out) as stage:
            for split, pair in progress(work, f"writing {out}"):
                raw = read_volume([pair.image], pair.label)
                assert raw.label is not None  # a pair has one
                raw = replace(raw, label=recipe.label_map.apply(raw.label))
                written[split][pair.case] = _write(stage, split, pair, to_pixels(raw, spec, 3, pair.image), classes)
            parts = []
            for split, cases in written.items():
                write_list(stage, split, [file for case in cases.values() for file in case["files"]])
                parts += [Path(FOLDERS[split]), LISTS / LIST_FILES[split]]
            manifest["splits"] = manifest.get("splits", {}) | written
            write_manifest(stage, manifest)
            publish(stage, out, [*parts, Path(NAME)])
    except OSError as error:
        raise UserError(f"could not write {out}: {error}") from error
    return manifest


def _existing(out: Path, splits: Mapping[str, Any], recipe: Recipe, overwrite: bool) -> dict[str, Any]:
    """The manifest of what is in ``out``, after checking that the new splits can go there."""
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out} is a file: expected a folder.")
    manifest = read_manifest(out)
    if manifest is None or "splits" not in manifest or manifest.get("synthetic"):
        if out.is_dir() and any(out.iterdir()):
            raise UserError(f"--out {out} holds other data: choose a new or an empty folder.")
        return {}
    there = [split for split in splits if split in manifest["splits"] or (out / FOLDERS[split]).exists()]
    if there and not overwrite:
        raise UserError(f"{out} already holds the split {' and '.join(there)}: add --overwrite to replace it.")
    if not set(manifest["splits"]) - set(splits):
        return {}
    asked = {"window": list(recipe.window), "label_map": recipe.label_map.as_dict()}
    asked |= {"classes": list(recipe.classes)} if recipe.classes else {}
    for key, value in asked.items():
        if manifest[key] != value:
            raise UserError(
                f"{out} was prepared with {key} {manifest[key]}, now {value} is asked for: both splits must be "
                "prepared alike. Use the same values or another --out."
            )
    return manifest


def _check(splits: Mapping[str, Sequence[Pair]], label_map: LabelMap) -> dict[int, int]:
    """Checks headers, then labels, of all pairs; returns the voxels of each class."""
    pairs = [pair for group in splits.values() for pair in group]
    check_grids([(pair.image, pair.label) for pair in pairs], "nothing was written")
    total: dict[int, int] = {}
    for pair in progress(pairs, "checking labels"):
        label = read_label(pair.label)  # a view does not keep its image alive
        for value, count in value_counts(sitk.GetArrayViewFromImage(label)).items():
            target = label_map.target(value)
            if target is None:
                raise UserError(
                    f"{pair.label} holds the value {value}, which has no class under the label map "
                    f"{label_map.name!r}. Nothing was written. Name it in a --label-map file "
                    '("*" stands for all other values).'
                )
            total[target] = total.get(target, 0) + count
    if not any(total.keys()):
        raise UserError(f"all labels are background under the label map {label_map.name!r}. Nothing was written.")
    return total


def _class_names(recipe: Recipe, manifest: Mapping[str, Any], counts: Mapping[int, int]) -> list[str]:
    """Class names, background first, checked against the labels."""
    needed = max(recipe.label_map.num_classes or 0, 1 + max(counts))
    known = recipe.classes or tuple(manifest.get("classes", ())) or recipe.label_map.classes
    names = list(known or unnamed(needed))
    if len(names) < needed:
        raise UserError(
            f"the labels hold classes up to {needed - 1}, but {len(names)} names are known, background included: "
            f"{', '.join(names)}. Give all of them with --classes."
        )
    return names


def _write(stage: Path, split: str, pair: Pair, volume: Pixels, classes: list[str]) -> dict[str, Any]:
    """Writes one case and returns its part of the manifest."""
    label, spacing, geometry = volume.label, volume.spacing, volume.geometry
    assert label is not None and spacing is not None and geometry is not None  # volumes have them
    attributes = {
        "case_name": pair.case,
        "spacing": spacing,
        "origin": geometry["origin"],
        "direction": geometry["direction"],
        "orientation": ORIENTATION,
        "original_orientation": geometry["orientation"],
        "source": pair.image.name,
    }
    files = write_case(stage, split, pair.case, volume.image[:, 0], label, attributes)
    return {
        "slices": len(label),
        "shape": list(label.shape),
        "spacing": list(spacing),
        "original_orientation": geometry["orientation"],
        "voxels": count_classes(label, classes),
        "sources": {
            "image": {"name": pair.image.name, "sha256": digest(pair.image)},
            "label": {"name": pair.label.name, "sha256": digest(pair.label)},
        },
        "files": files,
    }
