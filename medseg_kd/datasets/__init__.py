"""Reading slices and cases, sampling them, and the phantom."""

from medseg_kd.datasets.datasets import CaseDataset, SliceDataset
from medseg_kd.datasets.samplers import SeededSampler
from medseg_kd.datasets.transforms import LoadCase, LoadSlice, PackSlice

__all__ = ["CaseDataset", "LoadCase", "LoadSlice", "PackSlice", "SeededSampler", "SliceDataset"]
