from medseg_kd.distill import ConfigurableDistiller

# No distillation loss: the student learns from its own labels and those that the teacher gives (model.teacher_labels).
distiller = dict(type=ConfigurableDistiller)
