"""From a checkpoint and slices to labels."""

from medseg_kd.inference.case import CasePredictor
from medseg_kd.inference.openmmlab import inference_model, init_model
from medseg_kd.inference.prediction import Prediction
from medseg_kd.inference.predictor import Predictor

__all__ = ["CasePredictor", "Prediction", "Predictor", "inference_model", "init_model"]
