"""Distillation losses for dense logits and features, one file each."""

from medseg_kd.distill.losses.at import ATLoss
from medseg_kd.distill.losses.base import DistillLoss
from medseg_kd.distill.losses.cwd import CWDLoss
from medseg_kd.distill.losses.dist import DISTLoss
from medseg_kd.distill.losses.dkd import DKDLoss
from medseg_kd.distill.losses.hcl import HCLLoss
from medseg_kd.distill.losses.kd import KDLoss

__all__ = ["ATLoss", "CWDLoss", "DISTLoss", "DKDLoss", "DistillLoss", "HCLLoss", "KDLoss"]
