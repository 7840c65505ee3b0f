"""medseg_kd: config-driven 2D medical image segmentation and knowledge distillation on MMEngine."""

import medseg_kd.timm_import  # noqa: F401 (which is asked before timm is imported)

__version__ = "0.1.0"
