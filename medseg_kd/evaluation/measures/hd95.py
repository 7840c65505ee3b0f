"""95th percentile of the symmetric Hausdorff distance."""

import numpy as np

from medseg_kd.evaluation.measures.base import LIKE_DISTANCE, Measure, Organ
from medseg_kd.registry import MEASURES


@MEASURES.register_module()
class HD95(Measure):
    """The percentile (linear interpolation) of the distances of both directions *pooled in one list*, as in MedPy.

    MONAI and DeepMind's surface-distance take the larger of two percentiles and give other numbers.
    """

    unit = "distance"
    higher_is_better = False
    absent = LIKE_DISTANCE
    needs = ("pred_to_truth", "truth_to_pred")

    def __call__(self, organ: Organ) -> float:
        """In voxels or mm."""
        return float(np.percentile(np.concatenate([organ.pred_to_truth, organ.truth_to_pred]), 95))
