from medseg_kd.distill import BPKD

distiller = dict(type=BPKD)
