"""The methods as short types of their own, one file each: every file of this folder is found without being named.

``dict(type=CWD, tau=4, loss_weight=3)`` is a whole distiller.
"""

from medseg_kd.registry import import_modules

import_modules("distill.methods")
