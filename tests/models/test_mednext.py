"""MedNeXt."""

import pytest
import torch
from monai.networks.blocks.mednext_block import MedNeXtUpBlock

from medseg_kd.errors import UserError
from medseg_kd.models import MedNeXt
from medseg_kd.models.networks.mednext_blocks import UpBlock
from tests.models.network_contract import NetworkContract


class TestMedNeXt(NetworkContract):
    network = dict(type=MedNeXt, num_classes=9, channels=4, block_counts=(1,) * 9)

    def test_stages(self, net):
        assert [stage["reduction"] for stage in net.feature_info] == [1, 2, 4, 8, 16]


def test_the_published_size():
    with torch.device("meta"):
        net = MedNeXt(9)
    assert sum(p.numel() for p in net.parameters()) == 10_447_625
    assert [stage["channels"] for stage in net.feature_info] == [32, 64, 128, 256, 512]


def test_a_resampling_block_has_the_ratio_of_the_stage_it_leads_to():
    net = MedNeXt(9, channels=2, expansion_ratios=(2, 3, 4, 5, 6), block_counts=(1,) * 5)
    for block, stage in zip([*net.down, *net.up], [*net.encoder[1:], *net.decoder], strict=True):
        ratios = [layer.conv2.out_channels // layer.conv2.in_channels for layer in (block, stage[0])]
        assert ratios[0] == ratios[1]
    assert net.size_divisor == 4


def test_the_up_block_is_monais():
    torch.manual_seed(0)
    theirs = MedNeXtUpBlock(8, 4, 3, 3, use_residual_connection=True, dim="2d")
    ours = UpBlock(8, 4, 3, kernel_size=3, use_residual_connection=True, dim="2d")
    ours.load_state_dict(theirs.state_dict())
    x = torch.rand(2, 8, 5, 6)
    torch.testing.assert_close(ours(x), theirs(x))


@pytest.mark.parametrize(("ratios", "counts"), [((2,) * 9, (2,) * 5), ((2,) * 4, (2,) * 4)])
def test_ratios_and_counts_go_together(ratios, counts):
    with pytest.raises(UserError, match="an odd number"):
        MedNeXt(9, expansion_ratios=ratios, block_counts=counts)
