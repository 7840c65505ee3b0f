from medseg_kd.distill import IFVD

distiller = dict(type=IFVD)
