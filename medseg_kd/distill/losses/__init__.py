"""What distillation losses share; each of them lies beside the method that it belongs to."""

from medseg_kd.distill.losses.base import DistillLoss

__all__ = ["DistillLoss"]
