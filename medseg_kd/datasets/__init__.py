"""What the images are, reading slices and cases, sampling them, and the phantom.

What is wrong with files, or with what a config says of them, is a :class:`~medseg_kd.errors.UserError`.
"""

from typing import TYPE_CHECKING

from medseg_kd.datasets.intensities import RGB8, CTNormalization, NoNormalization, Percentiles, Stored, Window, ZScore
from medseg_kd.datasets.spec import Channel, DataSpec
from medseg_kd.lazy_names import lazy_names

if TYPE_CHECKING:
    from medseg_kd.datasets.collate import collate_cases, collate_slices
    from medseg_kd.datasets.datasets import CaseDataset, SliceDataset
    from medseg_kd.datasets.samplers import SeededSampler
    from medseg_kd.datasets.transforms import LoadCase, LoadSlice, PackSlice

__getattr__ = lazy_names(
    __name__,
    {
        **dict.fromkeys(("collate_cases", "collate_slices"), "collate"),
        **dict.fromkeys(("CaseDataset", "SliceDataset"), "datasets"),
        **dict.fromkeys(("LoadCase", "LoadSlice", "PackSlice"), "transforms"),
        "SeededSampler": "samplers",
    },
)
__all__ = [
    "RGB8",
    "CTNormalization",
    "CaseDataset",
    "Channel",
    "DataSpec",
    "LoadCase",
    "LoadSlice",
    "NoNormalization",
    "PackSlice",
    "Percentiles",
    "SeededSampler",
    "SliceDataset",
    "Stored",
    "Window",
    "ZScore",
    "collate_cases",
    "collate_slices",
]
