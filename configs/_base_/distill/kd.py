from medseg_kd.distill import KD

distiller = dict(type=KD)
