"""Small volumes as files."""

import struct
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813

SPACING = (1.5, 2.0, 3.0)


def write_volume(path: Path, array: np.ndarray, spacing=SPACING, orientation="LPS", direction=None) -> Path:
    """Writes an LPS array (z, y, x) as a file of the given orientation; spacing is (x, y, z)."""
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing)
    image.SetOrigin((-7.0, 11.0, 5.0))
    if direction is not None:
        image.SetDirection(direction)
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(sitk.DICOMOrient(image, orientation) if direction is None else image, str(path), True)
    return path


def ct_and_label(seed: int = 0, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Hounsfield units and classes of 3 slices of 5 rows and 4 columns."""
    rng = np.random.default_rng(seed)
    return rng.integers(-300, 600, (3, 5, 4)).astype(np.int16), rng.integers(0, classes, (3, 5, 4)).astype(np.uint8)


def shear(path: Path, amount: float = 1e-3) -> None:
    """Shears the affine of an uncompressed NIfTI file and takes its quaternion away."""
    content = bytearray(path.read_bytes())
    struct.pack_into("<hh", content, 252, 0, 1)
    struct.pack_into("<4f", content, 280, -1.0, amount, 0.0, 0.0)
    path.write_bytes(content)


def about_45_degrees(excess: float) -> tuple[float, ...]:
    """Direction cosines of a volume that is turned in its slice by 45 degrees and a little."""
    cos, sin = float(np.cos(np.pi / 4 + excess)), float(np.sin(np.pi / 4 + excess))
    return (cos, -sin, 0.0, sin, cos, 0.0, 0.0, 0.0, 1.0)


def turned_pair(root: Path, name: str = "pt_1.nii.gz") -> tuple[np.ndarray, np.ndarray]:
    """Writes image and label whose directions lie on the two sides of 45 degrees; the label marks what is bright."""
    image = np.full((3, 5, 4), -100, np.int16)
    image[:, :2, :1] = 300
    for folder, array, excess in (("images", image, 1e-6), ("labels", image > 0, -1e-6)):
        write_volume(root / folder / name, array.astype(np.int16), (1.0, 1.0, 3.0), direction=about_45_degrees(excess))
    return image, (image > 0).astype(np.uint8)
