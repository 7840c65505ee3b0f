from medseg_kd.distill import CIRKD

distiller = dict(type=CIRKD)
