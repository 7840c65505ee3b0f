"""medseg_kd: config-driven 2D medical image segmentation and knowledge distillation on MMEngine."""

__version__ = "0.1.0"
