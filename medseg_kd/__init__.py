"""medseg_kd: config-driven 2D medical image segmentation and knowledge distillation on MMEngine."""

import os

import medseg_kd.timm_import  # noqa: F401 (which is asked before timm is imported)

__version__ = "0.1.0"

# MONAI imports MLflow where it is installed, which reports its use from then on unless it is told not to.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
