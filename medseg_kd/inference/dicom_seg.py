"""Labels of a DICOM series as a DICOM segmentation."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medseg_kd import __version__
from medseg_kd.errors import UserError, last_line
from medseg_kd.evaluation.label_tables import colour
from medseg_kd.files import whole_file

_NAME = "medseg_kd"
_SCHEME = "99MEDSEGKD"
"""Private coding scheme of classes that are no anatomy of SNOMED CT by their names; values are those of the labels."""


def load_highdicom() -> Any:
    """The package highdicom.

    Raises:
        UserError: It is not installed.
    """
    try:
        import highdicom
    except ImportError as error:
        raise UserError("--dicom-seg needs a package: pip install highdicom") from error
    return highdicom


def write_segmentation(labels: np.ndarray, slices: Sequence[Path], classes: Sequence[str], path: Path) -> None:
    """Write a binary DICOM SEG whose segments are the classes; patient and study are those of the series.

    Args:
        labels: (S, H, W) uint8, in the order of ``slices``.
        slices: Files of the series.
        classes: Names of the values, background first.
        path: The file, written whole or not at all.

    Raises:
        UserError: highdicom is not installed, or the series lacks what a segmentation must repeat.
        WriteError: It cannot be written.
    """
    hd = load_highdicom()
    from pydicom import dcmread
    from pydicom.sr.codedict import codes

    algorithm = hd.AlgorithmIdentificationSequence(_NAME, codes.DCM.ArtificialIntelligence, __version__)
    try:
        segmentation = hd.seg.Segmentation(
            source_images=[dcmread(each, stop_before_pixels=True) for each in slices],
            pixel_array=labels,
            segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=[_segment(hd, value, classes[value], algorithm) for value in range(1, len(classes))],
            series_instance_uid=hd.UID(),
            series_number=1000,
            sop_instance_uid=hd.UID(),
            instance_number=1,
            manufacturer=_NAME,
            manufacturer_model_name=_NAME,
            software_versions=__version__,
            device_serial_number="0",
            series_description=f"{_NAME} segmentation",
        )
    # What a source lacks, or has in a form that no segmentation may repeat.
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{slices[0].parent}: no DICOM segmentation can be made of this series ({last_line(error)}). Leave "
            "--dicom-seg out: the NIfTI file has the same labels"
        ) from error
    with whole_file(path) as draft:
        segmentation.save_as(draft)


def _segment(hd: Any, value: int, name: str, algorithm: Any) -> Any:
    """The description of a class."""
    category, kind, side = _codes(value, name)
    found = hd.seg.SegmentDescription(
        segment_number=value,
        segment_label=name[:64],
        segmented_property_category=category,
        segmented_property_type=kind,
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=algorithm,
        display_color=hd.color.CIELabColor.from_rgb(*colour(value)),
    )
    if side is not None:
        found.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [
            hd.sr.CodedConcept(*side[:3])
        ]
    return found


def _codes(value: int, name: str) -> tuple[Any, Any, Any]:
    """Category, type and side (None: neither) of a class, by its name: SNOMED CT's for anatomy that DICOM lists."""
    from pydicom.sr.codedict import Code, codes

    words = name.lower().replace("_", " ").replace("-", " ").split()
    sides = {"left": codes.SCT.Left, "right": codes.SCT.Right}
    sided = [word for word in words if word in sides]
    listed = codes.cid7192
    known = {code.meaning.lower().replace(" ", ""): code for code in (getattr(listed, key) for key in listed.dir())}
    bare = "".join(word for word in words if word not in sides) if len(sided) == 1 else "".join(words)
    for text, side in (("".join(words), None), (bare, sides[sided[0]] if len(sided) == 1 else None)):
        for spelt in (text, f"{text}gland"):
            if spelt in known:
                return codes.SCT.AnatomicalStructure, known[spelt], side
    return codes.SCT.SpatialAndRelationalConcept, Code(str(value), _SCHEME, name[:64]), None
