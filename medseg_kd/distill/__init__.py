"""Distillation: algorithm, distiller, methods, recorders, connectors and losses."""

from medseg_kd.distill.algorithm import Distillation, SingleTeacherDistill
from medseg_kd.distill.connectors import ABF, ConvConnector
from medseg_kd.distill.distiller import ConfigurableDistiller
from medseg_kd.distill.ensemble import MultiTeacherDistill
from medseg_kd.distill.losses import ATLoss, CWDLoss, DistillLoss, DISTLoss, DKDLoss, HCLLoss, KDLoss
from medseg_kd.distill.methods import AT, CWD, DIST, DKD, KD, METHODS, Method, ReviewKD
from medseg_kd.distill.recorders import Logits, ModuleInputs, ModuleOutputs, Parameter, Recorder, RecorderManager

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
    "HCLLoss",
    "KDLoss",
    "Logits",
    "Method",
    "ModuleInputs",
    "ModuleOutputs",
    "MultiTeacherDistill",
    "Parameter",
    "Recorder",
    "RecorderManager",
    "ReviewKD",
    "SingleTeacherDistill",
]
