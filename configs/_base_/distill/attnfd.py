from medseg_kd.distill import AttnFD

distiller = dict(type=AttnFD)
