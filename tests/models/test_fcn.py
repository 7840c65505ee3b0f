"""FCN."""

import pytest
import torch
from mmseg.models.backbones import ResNet, ResNetV1c

from medseg_kd.errors import UserError
from medseg_kd.models import FCN, AttentionUNet, FineResNetV1c, UNet
from tests.models.network_contract import NetworkContract, VariantContract, without_values

BACKBONE = dict(
    type=ResNetV1c,
    dilations=(1, 1, 2, 4),
    strides=(1, 2, 1, 1),
    contract_dilation=True,
    norm_cfg=dict(type="BN"),
)
NARROW = dict(base_channels=8, stem_channels=8, **BACKBONE)


class TestFCNR18(NetworkContract):
    network = dict(type=FCN, backbone=dict(depth=18, **NARROW), in_channels=1, channels=16, num_classes=9)
    outputs_in_training = 2
    reduction = 8


class TestFCNWithoutAuxiliaryHead(VariantContract):
    network = dict(
        type=FCN,
        backbone=dict(depth=18, **NARROW),
        in_channels=1,
        channels=32,
        auxiliary_channels=None,
        num_classes=4,
    )
    reduction = 8


def test_published_stages():
    net = without_values(dict(type=FCN, backbone=dict(depth=18, **BACKBONE), num_classes=9))
    assert [stage["reduction"] for stage in net.feature_info] == [4, 8, 8, 8]
    assert [stage["channels"] for stage in net.feature_info] == [64, 128, 256, 512]


def test_r50_equals_the_size_that_mmsegmentation_builds():
    """One input channel instead of three, in a stem of 32 filters of 3x3."""
    from mmseg.registry import MODELS

    head = dict(type="FCNHead", norm_cfg=dict(type="BN"), num_classes=9, concat_input=True)
    with torch.device("meta"):
        theirs = MODELS.build(
            dict(
                type="EncoderDecoder",
                backbone=dict(depth=50, num_stages=4, **{**BACKBONE, "type": "ResNetV1c"}),
                decode_head=dict(**head, in_channels=2048, in_index=3, channels=512, num_convs=2),
                auxiliary_head=dict(
                    **{**head, "concat_input": False}, in_channels=1024, in_index=2, channels=256, num_convs=1
                ),
            )
        )
        ours = FCN(dict(depth=50, **BACKBONE), num_classes=9, in_channels=1)
    count = [sum(p.numel() for p in model.parameters()) for model in (theirs, ours)]
    assert count[0] - count[1] == 2 * 32 * 9
    assert count[1] == pytest.approx(49.49e6, rel=1e-3)


@pytest.mark.parametrize("network", [FCN, UNet, AttentionUNet])
@pytest.mark.parametrize(
    ("said", "backbone", "channels"),
    [(None, {}, 3), (4, {}, 4), (None, {"in_channels": 2}, 2), (2, {"in_channels": 2}, 2)],
)
@pytest.mark.parametrize("kind", [ResNet, ResNetV1c, FineResNetV1c])
def test_the_backbone_follows_the_network_s_channels(network, said, backbone, channels, kind):
    config = {**BACKBONE, "type": kind, "depth": 18, "base_channels": 4, "stem_channels": 4, **backbone}
    net = network(config, num_classes=2, in_channels=said)
    assert net.in_channels == channels
    assert next(net.backbone.parameters()).shape[1] == channels
    assert config.get("in_channels") == backbone.get("in_channels"), "the config itself is left alone"


@pytest.mark.parametrize("network", [FCN, UNet, AttentionUNet])
def test_two_numbers_of_channels_are_refused(network):
    with pytest.raises(
        UserError, match=r"^model\.network\.backbone\.in_channels is 3, but model\.network\.in_channels is 4 "
    ):
        network(dict(depth=18, **{**BACKBONE, "in_channels": 3}), num_classes=2, in_channels=4)
