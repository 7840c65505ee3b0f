from medseg_kd.distill import AT

distiller = dict(type=AT)
