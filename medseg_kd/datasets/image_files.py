"""Reading image files: grey, colour, 16 bits or palette."""

from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from medseg_kd.datasets.headers import checked_bytes
from medseg_kd.errors import UserError, first_line

LABEL_KINDS = {".png": "PNG", ".bmp": "BMP", ".tif": "TIFF", ".tiff": "TIFF"}
KINDS = {**LABEL_KINDS, ".jpg": "JPEG", ".jpeg": "JPEG"}
_DEEP = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")
_LOSSY = ("jpeg", "tiff_jpeg", "webp")
_BYTES = np.dtype(np.uint8)
_GREY = 2
"""Largest difference of the colours of a grey pixel, for JPEG's rounding."""


def _open(path: Path, kinds: dict[str, str]) -> Image.Image:
    """Open a whole file of one of these kinds, whatever its name says, and of no other."""
    formats = tuple(dict.fromkeys(kinds.values()))
    try:
        image = Image.open(path, formats=formats)
        if image.format == "PNG":  # nothing else compares the checksums
            image.verify()
            image = Image.open(path, formats=formats)
    except UnidentifiedImageError as error:
        why = ": JPEG would blend its classes" if kinds is LABEL_KINDS else ""
        raise UserError(
            f"{path} cannot be read as {', '.join(formats)}, of which it has to be{why}. Whatever its name says, it is "
            "of another kind, or damaged: save it anew as PNG"
        ) from error
    except Image.DecompressionBombError as error:
        raise UserError(
            f"{path} is too large: {first_line(error).rstrip('.')}. Cut it into tiles, or copy it again"
        ) from error
    checked_bytes(image.size, _BYTES, path)
    if getattr(image, "is_animated", False):
        problem = "holds several pages, of which one would be read. Save each as a file of its own"
    elif kinds is LABEL_KINDS and image.info.get("compression") in _LOSSY:
        problem = "is packed with losses, which blends the classes. Save it anew as PNG"
    elif image.mode not in _DEEP and any(";16" in str(tile[3]) for tile in image.tile):
        problem = (
            "has several channels of 16 bits, of which 8 would be read. Save it with 8 bits a channel, or each channel "
            "as a volume of its own (nnunet)"
        )
    elif (turn := image.getexif().get(ExifTags.Base.Orientation, 1)) > 1:
        problem = (
            f"is to be turned or mirrored (EXIF orientation {turn}), so that it is not known how its label lies. Save "
            "both upright, without this entry"
        )
    else:
        return image
    image.close()
    raise UserError(f"{path} {problem}")


def read_pixels(path: Path, channels: int) -> np.ndarray:
    """Pixels (C, H, W): one channel of a grey image, three of a colour image."""
    with _open(path, KINDS) as image:
        if image.mode in _DEEP:
            return np.repeat(np.asarray(image)[None], channels, axis=0)
        if image.mode in ("LA", "PA", "RGBA") and image.convert("RGBA").getextrema()[3] != (255, 255):
            raise UserError(f"{path} is transparent in places: save it without an alpha channel")
        pixels = np.asarray(image.convert("RGB"))
    if channels != 1:
        return np.moveaxis(pixels, -1, 0)
    if int(np.ptp(pixels, axis=-1).max(initial=0)) > _GREY:
        raise UserError(
            f"{path} is a colour image, but dataset.spec knows one channel. For colour say "
            "dataset.spec=dict(channels='RGB', ...); to do without it, save the images in grey"
        )
    return pixels[None, ..., 1]


def read_label(path: Path) -> np.ndarray:
    """Pixel values (H, W) of a label file; of a palette image, its indices."""
    with _open(path, LABEL_KINDS) as image:
        if image.mode in ("1", "L", "P", *_DEEP):
            return np.asarray(image)
        pixels = np.asarray(image.convert("RGB"))
    if np.ptp(pixels, axis=-1).any():
        raise UserError(
            f"{path} is a colour image: a label holds the class value of each pixel. Save it as a grey or palette PNG "
            "with the values 0, 1 and so on"
        )
    return pixels[..., 0]
