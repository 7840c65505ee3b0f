from medseg_kd.distill import LSKD

distiller = dict(type=LSKD)
