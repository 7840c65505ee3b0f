"""MONAI's networks and losses by name: ``dict(type='monai.SegResNet')``. Imported when the first is asked for."""

import inspect

import monai.losses
import monai.networks.nets
from torch import nn

from medseg_kd.registry import MONAI

for name, kind in {**vars(monai.losses), **vars(monai.networks.nets)}.items():
    if inspect.isclass(kind) and issubclass(kind, nn.Module):
        MONAI.register_module(name=name, module=kind)
