from medseg_kd.distill import MGD

distiller = dict(type=MGD)
