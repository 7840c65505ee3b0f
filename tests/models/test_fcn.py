"""FCN."""

import pytest
from mmseg.models.backbones import ResNetV1c

from medseg_kd.models import FCN
from tests.models.network_contract import NetworkContract

BACKBONE = dict(
    type=ResNetV1c,
    in_channels=1,
    dilations=(1, 1, 2, 4),
    strides=(1, 2, 1, 1),
    contract_dilation=True,
    norm_cfg=dict(type="BN"),
)


class TestFCNR18(NetworkContract):
    network = dict(type=FCN, backbone=dict(depth=18, **BACKBONE), channels=128, num_classes=9)
    outputs_in_training = 2
    reduction = 8

    def test_stages(self, net):
        assert [stage["reduction"] for stage in net.feature_info] == [4, 8, 8, 8]
        assert [stage["channels"] for stage in net.feature_info] == [64, 128, 256, 512]


class TestFCNWithoutAuxiliaryHead(NetworkContract):
    network = dict(type=FCN, backbone=dict(depth=18, **BACKBONE), channels=32, auxiliary_channels=None, num_classes=4)
    reduction = 8


def test_r50_equals_the_size_that_mmsegmentation_builds():
    """One input channel instead of three, in a stem of 32 filters of 3x3."""
    from mmseg.registry import MODELS

    head = dict(type="FCNHead", norm_cfg=dict(type="BN"), num_classes=9, concat_input=True)
    theirs = MODELS.build(
        dict(
            type="EncoderDecoder",
            backbone=dict(depth=50, num_stages=4, **{**BACKBONE, "in_channels": 3, "type": "ResNetV1c"}),
            decode_head=dict(**head, in_channels=2048, in_index=3, channels=512, num_convs=2),
            auxiliary_head=dict(
                **{**head, "concat_input": False}, in_channels=1024, in_index=2, channels=256, num_convs=1
            ),
        )
    )
    ours = FCN(dict(depth=50, **BACKBONE), num_classes=9)
    count = [sum(p.numel() for p in model.parameters()) for model in (theirs, ours)]
    assert count[0] - count[1] == 2 * 32 * 9
    assert count[1] == pytest.approx(49.49e6, rel=1e-3)
