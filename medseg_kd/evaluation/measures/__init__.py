"""Measures of two objects, one record each; every file of this folder is found without being named anywhere."""

from medseg_kd.evaluation.measures.base import Distance, Fraction, Measure, Organ

__all__ = ["Distance", "Fraction", "Measure", "Organ"]
