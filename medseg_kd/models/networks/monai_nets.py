"""MONAI's networks by name: ``dict(type='monai.SegResNet')``. Imported when the first of them is asked for."""

import inspect

import monai.networks.nets
from torch import nn

from medseg_kd.registry import MONAI

for name, network in vars(monai.networks.nets).items():
    if inspect.isclass(network) and issubclass(network, nn.Module):
        MONAI.register_module(name=name, module=network)
