"""U-Net."""

from typing import ClassVar

from medseg_kd.models import FineResNetV1c, UNet
from tests.models.network_contract import NetworkContract, VariantContract, without_values
from tests.models.test_fcn import BACKBONE, NARROW


class TestUNetR18(NetworkContract):
    network = dict(type=UNet, backbone=dict(depth=18, **NARROW), in_channels=1, num_classes=9)
    outputs_in_training = 2
    reduction = 4

    def test_auxiliary_classifier_sits_on_the_256_channel_level(self):
        net = without_values({**self.network, "backbone": dict(depth=18, **BACKBONE)})
        assert net.auxiliary_head.conv_seg.in_channels == 256
        assert net.head.conv_seg.in_channels == 64


class TestUNetR50(VariantContract):
    norm_cfg: ClassVar = dict(type="IN")
    network = dict(
        type=UNet,
        backbone=dict(depth=50, **{**NARROW, "norm_cfg": norm_cfg}),
        in_channels=1,
        num_classes=9,
        auxiliary=False,
        norm_cfg=norm_cfg,
        act_cfg=dict(type="LeakyReLU"),
    )
    reduction = 4

    def test_published_stages(self):
        net = without_values({**self.network, "backbone": dict(depth=50, **BACKBONE)})
        assert [stage["channels"] for stage in net.feature_info] == [256, 512, 1024, 2048]


class TestUNetForSmallSlices(VariantContract):
    network = dict(
        type=UNet,
        backbone=dict(type=FineResNetV1c, depth=18, base_channels=8, stem_channels=8, norm_cfg=dict(type="BN")),
        in_channels=1,
        num_classes=9,
    )
    outputs_in_training = 2
    reduction = 2

    def test_stages(self, net):
        assert [stage["reduction"] for stage in net.feature_info] == [2, 4, 8, 16]
