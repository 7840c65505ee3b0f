"""Made-up trainings of nnU-Net and volumes, each with something that its pipeline treats in a way of its own."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813
from scipy.ndimage import gaussian_filter

from tests.nnunet_results import dataset_json, plans_json, write_results

RAS = (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0)
SAGITTAL = (0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, -1.0, 0.0)


def _transposed() -> dict[str, Any]:
    return {**plans_json(spacing=[1.2, 1.1]), "transpose_forward": [2, 0, 1], "transpose_backward": [1, 2, 0]}


@dataclass(frozen=True)
class Example:
    """A training and a volume, (z, y, x); a ``margin`` is 0 around it, with a hole of 0 inside."""

    plans: dict[str, Any]
    dataset: dict[str, Any] = field(default_factory=dataset_json)
    shape: tuple[int, int, int] = (4, 50, 41)
    spacing: tuple[float, float, float] = (3.0, 1.0, 1.0)
    direction: tuple[float, ...] = ()
    margin: bool = False
    folds: tuple[int, ...] = (0,)
    mirror: bool = False
    outputs: int = 3


EXAMPLES = {
    "slices resampled one by one": Example(plans_json(spacing=[1.3, 1.1]), spacing=(5.0, 0.9, 0.7)),
    "volume resampled": Example(plans_json(spacing=[0.8, 0.6]), spacing=(1.5, 0.9, 0.7), shape=(3, 40, 31)),
    "lowest resolution in the slice": Example(plans_json(), spacing=(1.0, 0.9, 4.0), shape=(4, 50, 15)),
    "smaller than a patch": Example(plans_json(patch_size=[64, 48]), shape=(3, 33, 41)),
    "RAS with a margin": Example(plans_json(), direction=RAS, margin=True),
    "sagittal": Example(plans_json(), direction=SAGITTAL, margin=True, spacing=(3.0, 1.2, 0.8), shape=(8, 40, 30)),
    "transposed": Example(_transposed(), shape=(30, 28, 8), spacing=(1.0, 1.3, 3.3), margin=True),
    "masked z-score": Example(
        plans_json(("ZScoreNormalization", True), ("ZScoreNormalization", True)),
        dataset_json(channels=("T1", "T2")),
        margin=True,
    ),
    "z-score and others": Example(
        plans_json(("ZScoreNormalization", False), ("RescaleTo01Normalization", False), ("NoNormalization", False)),
        dataset_json(channels=("T1", "T2", "prior")),
        margin=True,
    ),
    "folds": Example(plans_json(spacing=[1.2, 1.1]), folds=(0, 1, 2)),
    "mirrored": Example(plans_json(), mirror=True, shape=(2, 50, 41)),
    "regions": Example(
        plans_json(spacing=[1.2, 1.1]),
        dataset_json({"background": 0, "whole": [1, 2], "core": [2]}, regions_class_order=[1, 2]),
        margin=True,
        outputs=2,
    ),
}


def write(example: Example, folder: Path) -> tuple[Path, list[Path]]:
    """Write the results folder and a volume, a file a channel."""
    results = write_results(
        folder / "nnUNetTrainer__nnUNetPlans__2d", example.plans, example.dataset, example.folds, example.outputs
    )
    files = []
    for channel in range(len(example.dataset["channel_names"])):
        noise = gaussian_filter(np.random.default_rng(channel).normal(size=example.shape), (1, 2, 2))
        values = np.round(noise / noise.std() * 200 + 50).astype(np.int16)
        if example.margin:
            inside = np.zeros(example.shape, bool)
            inside[1:, 3:-5, 4:-2] = True
            inside[2:3, 10:14, 10:14] = False
            values[~inside] = 0
        image = sitk.GetImageFromArray(values)
        image.SetSpacing(example.spacing[::-1])
        if example.direction:
            image.SetDirection(example.direction)
        files.append(folder / f"case_{channel:04d}.nii.gz")
        sitk.WriteImage(image, str(files[-1]))
    return results, files
