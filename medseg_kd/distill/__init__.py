"""Distillation: algorithm, distiller, methods, recorders, connectors and losses."""

from medseg_kd.distill.algorithm import Distillation, SingleTeacherDistill
from medseg_kd.distill.connectors import ABF, CBAMConnector, ConvConnector, MaskedGeneration
from medseg_kd.distill.distiller import ConfigurableDistiller, Distiller, build_distiller
from medseg_kd.distill.ensemble import MultiTeacherDistill
from medseg_kd.distill.losses import DistillLoss
from medseg_kd.distill.methods.at import AT, ATLoss
from medseg_kd.distill.methods.attnfd import AttnFD, AttnFDLoss
from medseg_kd.distill.methods.base import METHODS, method, on_logits
from medseg_kd.distill.methods.bpkd import BPKD, BPKDLoss
from medseg_kd.distill.methods.cirkd import CIRKD, CIRKDLoss
from medseg_kd.distill.methods.cwd import CWD, CWDLoss
from medseg_kd.distill.methods.dist import DIST, DISTLoss
from medseg_kd.distill.methods.dkd import DKD, DKDLoss
from medseg_kd.distill.methods.ifvd import IFVD, IFVDLoss
from medseg_kd.distill.methods.kd import KD, KDLoss
from medseg_kd.distill.methods.lskd import LSKD, LSKDLoss
from medseg_kd.distill.methods.mgd import MGD, MGDLoss
from medseg_kd.distill.methods.reviewkd import HCLLoss, ReviewKD
from medseg_kd.distill.recorders import Logits, ModuleInputs, ModuleOutputs, Parameter, Recorder, RecorderManager
from medseg_kd.distill.stored import StoredTeacher
from medseg_kd.distill.weighting import GradientShare, WeightSchedule

__all__ = [
    "ABF",
    "AT",
    "ATLoss",
    "AttnFD",
    "AttnFDLoss",
    "BPKD",
    "BPKDLoss",
    "CBAMConnector",
    "CIRKD",
    "CIRKDLoss",
    "CWD",
    "CWDLoss",
    "ConfigurableDistiller",
    "ConvConnector",
    "DIST",
    "DISTLoss",
    "DKD",
    "DKDLoss",
    "DistillLoss",
    "Distillation",
    "Distiller",
    "GradientShare",
    "HCLLoss",
    "IFVD",
    "IFVDLoss",
    "KD",
    "KDLoss",
    "LSKD",
    "LSKDLoss",
    "Logits",
    "METHODS",
    "MGD",
    "MGDLoss",
    "MaskedGeneration",
    "ModuleInputs",
    "ModuleOutputs",
    "MultiTeacherDistill",
    "Parameter",
    "Recorder",
    "RecorderManager",
    "ReviewKD",
    "SingleTeacherDistill",
    "StoredTeacher",
    "WeightSchedule",
    "build_distiller",
    "method",
    "on_logits",
]
