"""The six methods as short types of their own: ``dict(type=CWD, tau=4, loss_weight=3)`` is a whole distiller."""

from medseg_kd.distill.methods.at import AT
from medseg_kd.distill.methods.base import Method
from medseg_kd.distill.methods.cwd import CWD
from medseg_kd.distill.methods.dist import DIST
from medseg_kd.distill.methods.dkd import DKD
from medseg_kd.distill.methods.kd import KD
from medseg_kd.distill.methods.reviewkd import ReviewKD

METHODS: dict[str, type[Method]] = {kind.__name__: kind for kind in (KD, AT, DKD, DIST, CWD, ReviewKD)}
"""The methods by their names."""

__all__ = ["METHODS", "AT", "CWD", "DIST", "DKD", "KD", "Method", "ReviewKD"]
