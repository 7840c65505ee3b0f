"""Converting pairs of NIfTI volumes into the splits of a data folder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import SimpleITK as sitk  # noqa: N813

from medseg_kd.datasets.conversion.label_maps import LabelMap, values_of
from medseg_kd.datasets.conversion.stacks import stack_orientation
from medseg_kd.datasets.conversion.writing import Volume, own_manifest, write_folder
from medseg_kd.datasets.formats.transunet import FOLDERS, digest
from medseg_kd.datasets.intensities import Window
from medseg_kd.datasets.pairs import Pair
from medseg_kd.datasets.pixels import to_pixels
from medseg_kd.datasets.spec import Channel, DataSpec, unnamed
from medseg_kd.datasets.volumes import ORIENTATION, check_grids, read_label, read_volume
from medseg_kd.errors import UserError
from medseg_kd.progress import progress


@dataclass(frozen=True)
class Recipe:
    """What is done to every volume of a data folder: both splits must share it.

    Args:
        channel: What the volumes are, with the rule for their values.
        label_map: What becomes of the label values.
        classes: Class names; "background" is put first where it is missing. Empty takes the folder's own, then the
            label map's, then numbers.
        stacked: Slices are those of the stack that the header tells (:func:`stack_orientation`), whichever way they lie
            in the patient; otherwise they lie across the body.
    """

    channel: Channel
    label_map: LabelMap
    classes: tuple[str, ...] = ()
    stacked: bool = False

    def __post_init__(self) -> None:
        if self.classes and self.classes[0].lower() != "background":
            object.__setattr__(self, "classes", ("background", *self.classes))
        if len(set(self.classes)) != len(self.classes):
            raise UserError(f"--classes names a class twice: {', '.join(self.classes)}.")
        if wrong := [name for name in self.classes if not name.strip() or name == "ignore"]:
            raise UserError(f"--classes has {wrong[0]!r}, which is no name of a class.")


def convert(
    splits: Mapping[str, Sequence[Pair]],
    out: Path,
    recipe: Recipe,
    tool: str,
    overwrite: bool = False,
    note: str = "",
) -> dict[str, Any]:
    """Writes splits in the TransUNet layout, with a manifest; other splits in the folder stay.

    Everything that can be checked without converting is checked first, for all cases; a failure leaves ``out`` as it
    was.

    Args:
        splits: Pairs of ``train``, ``val`` and ``test``, or of some of them.
        tool: Name of the calling tool, for the manifest, which is returned.
        overwrite: Replace splits that are already there.
        note: What every table that is made on the data has to say.
    """
    rule = recipe.channel.intensity
    told = {"window": [rule.low, rule.high]} if type(rule) is Window else {"intensity": rule.to_json()}
    said = {**told, "label_map": recipe.label_map.as_dict()}
    before = _before(out, splits, {**said, **({"classes": list(recipe.classes)} if recipe.classes else {})}, overwrite)
    work = [(split, pair) for split, pairs in splits.items() for pair in pairs]
    grids = check_grids([(pair.image, pair.label) for _, pair in work], "nothing was written")
    classes = _class_names(recipe, before, _classes([pair for _, pair in work], recipe.label_map))
    orientation = stack_orientation(grids) if recipe.stacked else ORIENTATION
    spec = DataSpec((recipe.channel,), classes, orientation=orientation)
    return write_folder(
        out,
        work,
        lambda pair: _read(pair, recipe, spec),
        spec,
        {**said, "tool": tool, **({"note": note} if note else {})},
        before,
    )


def _read(pair: Pair, recipe: Recipe, spec: DataSpec) -> Volume:
    """One case in the form that is written."""
    raw = read_volume([pair.image], pair.label, spec.orientation or ORIENTATION)
    assert raw.label is not None and raw.geometry is not None  # a pair has them
    label = recipe.label_map.apply(raw.label)
    image = to_pixels(replace(raw, label=label), spec, 3, pair.image).image[:, 0]
    original = {"original_orientation": raw.geometry["orientation"]}
    place = {"spacing": raw.spacing, **raw.geometry, "orientation": spec.orientation}
    attributes = {"case_name": pair.case, **place, **original, "source": pair.image.name}
    files = {"image": pair.image, "label": pair.label}
    sources = {kind: {"name": path.name, "sha256": digest(path)} for kind, path in files.items()}
    return Volume(pair.case, image, label, attributes, {**original, "sources": sources})


def _before(out: Path, splits: Mapping[str, Any], asked: Mapping[str, Any], overwrite: bool) -> dict[str, Any]:
    """The manifest of what stays in ``out``, after checking that the new splits can go there."""
    manifest = own_manifest(out)
    if manifest is None:
        return {}
    there = [split for split in splits if split in manifest["splits"] or (out / FOLDERS[split]).exists()]
    if there and not overwrite:
        raise UserError(f"{out} already holds the split {' and '.join(there)}: add --overwrite to replace it.")
    if not set(manifest["splits"]) - set(splits):
        return {}
    for key, value in asked.items():
        if manifest.get(key) != value:
            raise UserError(
                f"{out} was prepared with {key} {manifest.get(key)}, now {value} is asked for: both splits must be "
                "prepared alike. Use the same values or another --out."
            )
    return manifest


def _classes(pairs: Sequence[Pair], label_map: LabelMap) -> set[int]:
    """The classes that the labels of all pairs hold, once they are checked."""
    classes: set[int] = set()
    for pair in progress(pairs, "checking labels"):
        label = read_label(pair.label)  # a view does not keep its image alive
        for value in values_of(sitk.GetArrayViewFromImage(label)):
            target = label_map.target(value)
            if target is None:
                raise UserError(
                    f"{pair.label} holds the value {value}, which has no class under the label map "
                    f"{label_map.name!r}. Nothing was written. Name it in a --label-map file "
                    '("*" stands for all other values).'
                )
            classes.add(target)
    if not any(classes):
        raise UserError(f"all labels are background under the label map {label_map.name!r}. Nothing was written.")
    return classes


def _class_names(recipe: Recipe, manifest: Mapping[str, Any], held: set[int]) -> tuple[str, ...]:
    """Class names, background first, checked against the labels."""
    needed = max(recipe.label_map.num_classes or 0, 1 + max(held))
    names = recipe.classes or tuple(manifest.get("classes", ())) or recipe.label_map.classes or unnamed(needed)
    if len(names) < needed:
        raise UserError(
            f"the labels hold classes up to {needed - 1}, but {len(names)} names are known, background included: "
            f"{', '.join(names)}. Give all of them with --classes."
        )
    return names
