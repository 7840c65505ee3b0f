from medseg_kd.distill import DKD

distiller = dict(type=DKD)
