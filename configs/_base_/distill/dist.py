from medseg_kd.distill import DIST

distiller = dict(type=DIST)
