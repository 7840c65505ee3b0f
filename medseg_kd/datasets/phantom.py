"""The phantom: a procedural abdominal CT with the nine Synapse classes, different in every case.

It lets every config run on a machine that has no data. Organs are bent ellipsoids at anatomical places, in a body
with fat, muscle, spine, ribs, bowel and a vena cava; their grey values overlap each other's and the rest of the
body's, so that a network has to learn shape and place. Scores on it say nothing about patients.

Coordinates: x from the patient's right (-1) to the left (1), y from front (-1) to back (1), z from feet (0) to
head (1); arrays are (slice, row, column) = (z, y, x), as :mod:`medseg_kd.datasets.conversion` writes real data.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

from medseg_kd.datasets.conversion.label_maps import SYNAPSE_CLASSES
from medseg_kd.datasets.conversion.writing import Volume, own_manifest, write_folder
from medseg_kd.datasets.spec import Channel, DataSpec
from medseg_kd.datasets.volumes import ORIENTATION
from medseg_kd.errors import UserError

Grid = tuple[np.ndarray, ...]
"""x, y and z of places, arrays that broadcast."""
FIELD_OF_VIEW = 380.0  # mm, across a slice
HEIGHT = 240.0  # mm, from the first slice to the last
MIN_SIZE, MIN_SLICES = 48, 4
NOTE = "synthetic phantom, not patients: a stand-in that lets the project run without data; scores on it mean nothing"


@dataclass(frozen=True)
class Blob:
    """A bent ellipsoid: |(u/a, (v - bend u^2)/b, w/c)| < 1 about its centre, u and v turned by an angle.

    Args:
        tissue: Whose grey value it has; a Synapse class, or another tissue, which is background.
        center: (x, y, z).
        axes: Half axes (a, b, c).
        angle: Degrees in the slice, from x towards y.
        bend: Curvature along u.
    """

    tissue: str
    center: tuple[float, ...]
    axes: tuple[float, ...]
    angle: float = 0.0
    bend: float = 0.0


ALONG = 9.0  # half axis of what runs through all slices
# Later blobs cover earlier ones.
ANATOMY = (
    Blob("muscle", (-0.17, 0.38, 0.3), (0.10, 0.12, ALONG)),
    Blob("muscle", (0.17, 0.38, 0.3), (0.10, 0.12, ALONG)),
    Blob("liver", (-0.42, -0.06, 0.72), (0.36, 0.42, 0.50), 20),
    Blob("liver", (-0.02, -0.28, 0.78), (0.32, 0.17, 0.34), 8),
    Blob("stomach", (0.36, -0.22, 0.70), (0.21, 0.27, 0.38), -25),
    Blob("spleen", (0.58, 0.17, 0.75), (0.16, 0.27, 0.36), -20),
    Blob("left kidney", (0.40, 0.29, 0.38), (0.16, 0.20, 0.34), 30),
    Blob("right kidney", (-0.40, 0.30, 0.34), (0.16, 0.20, 0.34), -30),
    Blob("pancreas", (0.12, 0.02, 0.50), (0.34, 0.115, 0.28), -12, 0.6),
    Blob("gallbladder", (-0.28, -0.15, 0.46), (0.145, 0.17, 0.31), 15),
    Blob("vena cava", (-0.12, 0.17, 0.5), (0.10, 0.06, ALONG)),
    Blob("bone", (0.0, 0.44, 0.5), (0.15, 0.13, ALONG)),
    Blob("bone", (0.0, 0.66, 0.5), (0.03, 0.16, ALONG)),
    Blob("cord", (0.0, 0.57, 0.5), (0.055, 0.05, ALONG)),
    Blob("aorta", (0.10, 0.22, 0.5), (0.10, 0.10, ALONG)),
)
# Grey value in [0, 1] (window -125 275 HU) and how far a case may lie from it.
GREY = {
    "fat": (0.10, 0.03),
    "muscle": (0.46, 0.05),
    "liver": (0.57, 0.07),
    "stomach": (0.45, 0.09),
    "spleen": (0.60, 0.08),
    "left kidney": (0.66, 0.09),
    "right kidney": (0.66, 0.09),
    "pancreas": (0.49, 0.06),
    "gallbladder": (0.33, 0.05),
    "vena cava": (0.55, 0.07),
    "aorta": (0.69, 0.08),
    "bone": (0.86, 0.06),
    "cord": (0.42, 0.05),
}
# How much brighter a wall is, and where it begins between centre (0) and surface (1).
WALLS = {"stomach": (0.14, 0.8), "bowel": (0.14, 0.8), "bone": (0.12, 0.75)}


def phantom_case(seed: int, case: int, slices: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws one case; (seed, case) alone decide its anatomy, whatever else is drawn.

    Returns:
        Image float32 in [0, 1] and label uint8, classes 0..8, both (slices, size, size).
    """
    rng = np.random.default_rng([seed, case])
    grid = _grid(rng, slices, size)
    grey = {tissue: mean + rng.uniform(-spread, spread) for tissue, (mean, spread) in GREY.items()}
    grey["right kidney"] = grey["left kidney"] + rng.normal(0, 0.01)
    image, cavity = _body(rng, grey, grid)
    label = np.zeros(image.shape, dtype=np.uint8)
    for blob, value in [*_bowel(rng), *((_vary(rng, blob), grey[blob.tissue]) for blob in ANATOMY)]:
        room = np.ones_like(cavity) if blob.tissue in ("bone", "cord") else cavity
        inside, distance = _inside(rng, blob, grid, room)
        image[inside] = value
        if blob.tissue.endswith("kidney"):
            image[inside] = value + 0.10 * (distance - 0.7)
        elif blob.tissue in WALLS:
            strength, place = WALLS[blob.tissue]
            image[inside] = value + strength * (distance > place)
        label[inside] = SYNAPSE_CLASSES.index(blob.tissue) if blob.tissue in SYNAPSE_CLASSES else 0
    return _scan(rng, image), label


def _grid(rng: np.random.Generator, slices: int, size: int) -> Grid:
    """Places of all voxels in the body of one case: moved, turned, scaled and gently warped."""
    z = ((np.arange(slices, dtype=np.float32) + 0.5) / slices)[:, None, None]
    line = (2 * np.arange(size, dtype=np.float32) + 1) / size - 1
    angle, zoom, stretch = rng.uniform(-0.15, 0.15), rng.uniform(0.9, 1.1), rng.uniform(0.93, 1.07)
    u = (line[None, None, :] - rng.uniform(-0.08, 0.08)) / (zoom * stretch)
    v = (line[None, :, None] - rng.uniform(-0.08, 0.08)) / zoom * stretch
    x, y = u * np.cos(angle) + v * np.sin(angle), v * np.cos(angle) - u * np.sin(angle)
    place = x, y, z + rng.uniform(-0.04, 0.04)
    warped = [axis + 0.03 * _wave(rng, place, 4.0) for axis in place]
    return tuple(np.broadcast_to(axis, (slices, size, size)).astype(np.float32) for axis in warped)


def _wave(rng: np.random.Generator, grid: Grid, frequency: float) -> np.ndarray:
    """A smooth random field in [-1, 1]: the mean of three plane waves."""
    (x, y, z), waves = grid, []
    for _ in range(3):
        kx, ky, kz = frequency * rng.uniform(-1, 1, 3)
        waves.append(np.sin(kx * x + ky * y + kz * z + rng.uniform(0, 2 * np.pi)))
    return sum(waves) / len(waves)


def _vary(rng: np.random.Generator, blob: Blob) -> Blob:
    """The blob of one case: moved, scaled and turned."""
    center = np.array(blob.center) + rng.uniform(-1, 1, 3) * (0.025 if blob.axes[2] == ALONG else 0.055)
    axes = np.array(blob.axes) * rng.uniform(0.85, 1.15, 3)
    angle, bend = blob.angle + rng.uniform(-12, 12), blob.bend * rng.uniform(0.6, 1.3)
    return Blob(blob.tissue, tuple(center), tuple(axes), angle, bend)


def _inside(
    rng: np.random.Generator, blob: Blob, grid: Grid, room: np.ndarray
) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
    """Indices of the voxels of a blob within ``room``, and their distance from its centre: 1 on the uneven surface."""
    a, b, c = blob.axes
    reach = 1.3 * (max(a, b) + abs(blob.bend) * a * a)  # nothing of the blob lies farther out
    dx, dy, dz = (axis - center for axis, center in zip(grid, blob.center, strict=True))
    near = np.nonzero(room & (abs(dx) < reach) & (abs(dy) < reach) & (abs(dz) < 1.3 * c))
    angle = np.deg2rad(blob.angle)
    u = (dx[near] * np.cos(angle) + dy[near] * np.sin(angle)) / a
    v = (dy[near] * np.cos(angle) - dx[near] * np.sin(angle) - blob.bend * (u * a) ** 2) / b
    w = dz[near] / c
    distance = np.sqrt(u**2 + v**2 + w**2) + 0.1 * _wave(rng, (u, v, w), 3.0)
    inside = distance < 1
    return tuple(index[inside] for index in near), distance[inside]


def _body(rng: np.random.Generator, grey: dict[str, float], grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Air, skin fat, a muscle wall with ribs and the fat inside it; also the mask of what lies inside the wall."""
    x, y, z = grid
    width, depth = rng.uniform(0.86, 0.92), rng.uniform(0.70, 0.78)
    radius = np.sqrt((x / width) ** 2 + (y / depth) ** 2)
    fat, wall = rng.uniform(0.90, 0.96), rng.uniform(0.83, 0.87)
    image = np.zeros(x.shape, dtype=np.float32)
    image[radius < 1] = grey["fat"]
    image[radius < fat] = grey["muscle"]
    image[radius < wall] = grey["fat"]
    ribs = np.sin(11 * np.arctan2(y, x) + 9 * z + rng.uniform(0, 6)) > 0.75
    image[ribs & (radius > wall) & (radius < fat) & (z > 0.35)] = grey["bone"]
    return image, radius < wall


def _bowel(rng: np.random.Generator) -> list[tuple[Blob, float]]:
    """Loops of bowel, in front and at the flanks, of the organs' sizes and grey values."""
    loops = []
    for _ in range(8):
        center = (rng.uniform(-0.6, 0.6), rng.uniform(-0.45, 0.05), rng.uniform(0.0, 0.5))
        axes = (rng.uniform(0.10, 0.22), rng.uniform(0.08, 0.14), rng.uniform(0.12, 0.3))
        loops.append((Blob("bowel", center, axes, rng.uniform(0, 180), rng.uniform(-1, 1)), rng.uniform(0.4, 0.72)))
    return loops


def _scan(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """What a scanner adds: partial volume, mottle, a shading across the slices and noise."""
    pixel = image.shape[1] / 96  # blur and mottle keep their size in mm
    inside = image > 0
    image = gaussian_filter(image, (0, 0.6 * pixel, 0.6 * pixel))
    mottle = gaussian_filter(rng.standard_normal(image.shape, dtype=np.float32), (0.5, 2 * pixel, 2 * pixel))
    image += inside * mottle * np.float32(0.035 / mottle.std())
    z, y, x = np.ix_(*(np.linspace(-1, 1, n, dtype=np.float32) for n in image.shape))
    image *= (1 + 0.12 * _wave(rng, (x, y, z), 2.5)).astype(np.float32)
    image += rng.standard_normal(image.shape, dtype=np.float32) * np.float32(rng.uniform(0.03, 0.06))
    return np.clip(image, 0, 1, out=image)


def write_phantom(
    out: Path, cases: int = 12, test_cases: int = 4, slices: int = 16, size: int = 96, seed: int = 0
) -> dict[str, Any]:
    """Writes the phantom in the TransUNet layout, with a manifest that says ``"synthetic": true``, and returns that.

    Cases are numbered from 1, training cases first. A folder that already holds this very phantom is left as it is.
    """
    parameters = {"cases": cases, "test_cases": test_cases, "slices": slices, "size": size, "seed": seed}
    for (name, value), least in zip(parameters.items(), (1, 1, MIN_SLICES, MIN_SIZE, 0), strict=True):
        if value < least:
            raise UserError(f"--{name.replace('_', '-')} {value}: expected at least {least}.")
    if (present := own_manifest(out, synthetic=True)) is not None:
        return _same(present, out, parameters)
    spacing = (HEIGHT / slices, FIELD_OF_VIEW / size, FIELD_OF_VIEW / size)

    def draw(number: int) -> Volume:
        name = f"case{number:04d}"
        return Volume(name, *phantom_case(seed, number, slices, size), {"case_name": name, "spacing": spacing}, {})

    return write_folder(
        out,
        [("train" if number <= cases else "test", number) for number in range(1, cases + test_cases + 1)],
        draw,
        DataSpec((Channel("CT"),), SYNAPSE_CLASSES, orientation=ORIENTATION),
        {"tool": "make_phantom", "synthetic": True, "note": NOTE, "parameters": parameters},
        {},
        f"{NOTE}.\nMade by tools/make_phantom.py of medseg_kd.\n",
    )


def _same(manifest: dict[str, Any], out: Path, parameters: dict[str, int]) -> dict[str, Any]:
    """The manifest of the phantom that is asked for; an error where another one is there, or files lack."""
    if manifest.get("parameters") != parameters:
        raise UserError(
            f"--out {out} holds a phantom made with {manifest.get('parameters')}, now {parameters} is asked for: "
            "choose another folder, or delete this one."
        )
    files = [str(file) for split in manifest["splits"].values() for case in split.values() for file in case["files"]]
    if lost := [file for file in files if not (out / file).is_file()]:
        raise UserError(
            f"the phantom in {out} lacks {lost[0]} and {len(lost) - 1} more: delete the folder, make it again."
        )
    return manifest
