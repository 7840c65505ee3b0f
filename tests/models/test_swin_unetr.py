"""Swin-UNETR."""

import pytest
import torch

from medseg_kd.errors import UserError
from medseg_kd.models import SwinUNETR
from tests.models.network_contract import NetworkContract


class TestSwinUNETR(NetworkContract):
    network = dict(type=SwinUNETR, num_classes=9, feature_size=12, depths=(1, 1, 1, 2))
