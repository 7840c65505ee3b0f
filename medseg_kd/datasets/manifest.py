"""``manifest.json``: what a data folder holds, where it came from and how it was made."""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medseg_kd.datasets.intensities import find_rule
from medseg_kd.datasets.listings import read_json, typed
from medseg_kd.datasets.spec import Channel, parts_of_json
from medseg_kd.errors import UserError

NAME = "manifest.json"


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of a folder; None where there is none."""
    path = folder / NAME
    if not path.is_file():
        return None
    manifest: dict[str, Any] = read_json(path, dict)
    for key, kind in (("classes", list), ("parameters", dict), ("splits", dict)):
        typed(manifest.get(key, kind()), kind, f"{path}: {key}")
    for split, cases in manifest.get("splits", {}).items():
        for name, case in typed(cases, dict, f"{path}: splits: {split}").items():
            typed(case, dict, f"{path}: splits: {split}: {name}")
    return manifest


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Writes the manifest of a folder."""
    (folder / NAME).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")


def spec_parts(manifest: Mapping[str, Any], where: str) -> dict[str, Any]:
    """What a manifest says of the images: some arguments of :class:`DataSpec`.

    Manifests without a ``spec`` are those of versions that knew one channel, a window and class names. ``where`` is
    its place, for messages.
    """
    if "spec" in manifest:
        return parts_of_json(manifest["spec"], where)
    classes = manifest.get("classes", [])
    if not isinstance(classes, list):
        raise UserError(f"{where}: classes is {classes!r}: expected a list of names")
    parts = parts_of_json({"labels": {name: value for value, name in enumerate(classes)}}, where)
    if "window" in manifest:
        window = manifest["window"]
        numbers = dict(zip(("low", "high"), window if isinstance(window, list) else (), strict=False))
        parts["channels"] = (Channel("CT", find_rule({"type": "Window", **numbers}, f"{where}: window")),)
    return parts


def summary(manifest: Mapping[str, Any], out: Path) -> str:
    """What a data folder holds, and what looks wrong in it, as text for the terminal."""
    lines = []
    for split, cases in manifest["splits"].items():
        lines.append(f"{split}: {len(cases)} cases, {sum(case['slices'] for case in cases.values())} slices")
        for name in manifest["classes"]:
            voxels = [case["voxels"].get(name, 0) for case in cases.values()]
            warning = "" if any(voxels) else "  <- nowhere: is this the right label map?"
            lines.append(f"  {name}: {sum(voxels)} voxels in {sum(map(bool, voxels))} cases{warning}")
    times = Counter(name for cases in manifest["splits"].values() for name in cases)
    if twice := sorted(name for name, count in times.items() if count > 1):
        lines.append(f"warning: in two splits, so that their scores are no test scores: {', '.join(twice)}")
    return "\n".join([*lines, f"written to {out}; train with --data-root {out}"])
