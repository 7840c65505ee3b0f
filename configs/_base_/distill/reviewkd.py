from medseg_kd.distill import ReviewKD

distiller = dict(type=ReviewKD)
