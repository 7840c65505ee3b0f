"""Scores of segmented volumes: surface distances, whole cases, and the metric of the test loop."""

from typing import TYPE_CHECKING

from ..lazy_names import lazy_names

if TYPE_CHECKING:
    from .binary import asd, dice, hd95, jaccard, surface_distances
    from .case import measure_case, score_case
    from .volume_metric import VolumeMetric

__getattr__ = lazy_names(
    __name__,
    {
        **dict.fromkeys(("asd", "dice", "hd95", "jaccard", "surface_distances"), "binary"),
        **dict.fromkeys(("measure_case", "score_case"), "case"),
        "VolumeMetric": "volume_metric",
    },
)
__all__ = ["VolumeMetric", "asd", "dice", "hd95", "jaccard", "measure_case", "score_case", "surface_distances"]
