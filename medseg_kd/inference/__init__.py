"""From slices to labels: prediction of a case in slice batches."""

from medseg_kd.inference.case import CasePredictor

__all__ = ["CasePredictor"]
