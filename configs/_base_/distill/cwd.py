from medseg_kd.distill import CWD

distiller = dict(type=CWD)
