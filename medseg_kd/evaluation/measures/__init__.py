"""Measures of two objects, one record each; every file of this folder is found without being named anywhere."""

from medseg_kd.evaluation.measures.base import LIKE_DICE, LIKE_DISTANCE, Measure, Organ

__all__ = ["LIKE_DICE", "LIKE_DISTANCE", "Measure", "Organ"]
