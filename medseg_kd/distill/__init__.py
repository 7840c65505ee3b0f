"""Distillation: algorithm, distiller, methods, recorders, connectors and losses."""

from medseg_kd.distill.algorithm import Distillation, SingleTeacherDistill
from medseg_kd.distill.connectors import ABF, ConvConnector
from medseg_kd.distill.distiller import ConfigurableDistiller, Distiller, build_distiller
from medseg_kd.distill.ensemble import MultiTeacherDistill
from medseg_kd.distill.losses import DistillLoss
from medseg_kd.distill.methods.at import AT, ATLoss
from medseg_kd.distill.methods.base import METHODS, method, on_logits
from medseg_kd.distill.methods.cwd import CWD, CWDLoss
from medseg_kd.distill.methods.dist import DIST, DISTLoss
from medseg_kd.distill.methods.dkd import DKD, DKDLoss
from medseg_kd.distill.methods.kd import KD, KDLoss
from medseg_kd.distill.methods.reviewkd import HCLLoss, ReviewKD
from medseg_kd.distill.recorders import Logits, ModuleInputs, ModuleOutputs, Parameter, Recorder, RecorderManager
from medseg_kd.distill.stored import StoredTeacher

__all__ = [
    "METHODS",
    "ABF",
    "AT",
    "CWD",
    "DIST",
    "DKD",
    "KD",
    "ATLoss",
    "CWDLoss",
    "ConfigurableDistiller",
    "ConvConnector",
    "DISTLoss",
    "DKDLoss",
    "DistillLoss",
    "Distillation",
    "Distiller",
    "HCLLoss",
    "KDLoss",
    "Logits",
    "ModuleInputs",
    "ModuleOutputs",
    "MultiTeacherDistill",
    "Parameter",
    "Recorder",
    "RecorderManager",
    "ReviewKD",
    "SingleTeacherDistill",
    "StoredTeacher",
    "build_distiller",
    "method",
    "on_logits",
]
