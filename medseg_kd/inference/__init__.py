"""From a checkpoint and slices to labels."""

from typing import TYPE_CHECKING

from medseg_kd.inference.prediction import Prediction
from medseg_kd.lazy_names import lazy_names

if TYPE_CHECKING:
    from medseg_kd.inference.case import CasePredictor
    from medseg_kd.inference.nnunet import NnUNetPredictor
    from medseg_kd.inference.nnunet_case import NnUNetCasePredictor
    from medseg_kd.inference.openmmlab import inference_model, init_model
    from medseg_kd.inference.predictor import Predictor

__getattr__ = lazy_names(
    __name__,
    {
        "CasePredictor": "case",
        "NnUNetCasePredictor": "nnunet_case",
        "NnUNetPredictor": "nnunet",
        **dict.fromkeys(("inference_model", "init_model"), "openmmlab"),
        "Predictor": "predictor",
    },
)
__all__ = [
    "CasePredictor",
    "NnUNetCasePredictor",
    "NnUNetPredictor",
    "Prediction",
    "Predictor",
    "inference_model",
    "init_model",
]
