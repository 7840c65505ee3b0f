"""Formats of data folders, one file each."""

from medseg_kd.datasets.formats.base import Case, Format, open_folder
from medseg_kd.datasets.formats.images import Images
from medseg_kd.datasets.formats.msd import MSD
from medseg_kd.datasets.formats.nifti import NIfTI
from medseg_kd.datasets.formats.nnunet import NNUNet
from medseg_kd.datasets.formats.transunet import TransUNet

__all__ = ["Case", "Format", "Images", "MSD", "NIfTI", "NNUNet", "TransUNet", "open_folder"]
