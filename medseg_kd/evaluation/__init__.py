"""Scores of segmented volumes: surface distances, whole cases, and the metric of the test loop."""

from .binary import asd, dice, hd95, jaccard, surface_distances
from .case import measure_case, score_case
from .volume_metric import VolumeMetric

__all__ = ["VolumeMetric", "asd", "dice", "hd95", "jaccard", "measure_case", "score_case", "surface_distances"]
