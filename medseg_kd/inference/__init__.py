"""From slices to labels: prediction of a case, slice batches, decoding."""

from medseg_kd.inference.case import CasePredictor
from medseg_kd.inference.decoding import to_labels

__all__ = ["CasePredictor", "to_labels"]
