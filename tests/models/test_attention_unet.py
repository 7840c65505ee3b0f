"""Attention U-Net; that the gate is the authors' is tested with the conversion of their weights."""

import pytest
import torch
from torch import nn

from medseg_kd.errors import UserError
from medseg_kd.models import AttentionUNet, UNet
from medseg_kd.models.networks.attention_unet import MultiAttentionGate
from tests.models.network_contract import NetworkContract, without_values
from tests.models.test_fcn import BACKBONE, NARROW


class TestAttentionUNetR18(NetworkContract):
    network = dict(type=AttentionUNet, backbone=dict(depth=18, **NARROW), in_channels=1, num_classes=9)
    outputs_in_training = 2
    reduction = 4

    @pytest.mark.full
    def test_the_exported_network_takes_every_size(self, net, tmp_path):
        super().test_the_exported_network_takes_every_size(net, tmp_path)

    @pytest.fixture
    def published(self):
        return without_values({**self.network, "backbone": dict(depth=18, **BACKBONE)})

    def test_size(self, published):
        assert sum(p.numel() for p in published.parameters()) == 15_075_960

    def test_each_skip_is_gated_by_the_deeper_feature_of_the_decoder(self, published):
        net, seen = published, []
        for block in net.decoder:
            block.gate.register_forward_pre_hook(lambda _, inputs: seen.append([tuple(x.shape[1:]) for x in inputs]))
        with torch.device("meta"):
            net.eval()(torch.empty(1, 1, 64, 64))
        assert seen == [[(256, 8, 8), (512, 8, 8)], [(128, 8, 8), (256, 8, 8)], [(64, 16, 16), (128, 8, 8)]]

    def test_too_small_an_input(self, net):
        with pytest.raises(UserError, match="above 8, but got 8x64"):
            net(torch.rand(1, 1, 8, 64))
        net.eval()(torch.rand(1, 1, 9, 64))

    def test_the_rest_is_the_u_net(self, net):
        rest = {key for key in net.state_dict() if ".gate." not in key}
        assert rest == set(UNet(dict(depth=18, **NARROW), num_classes=9).state_dict())


def test_attention_is_one_half_where_nothing_speaks():
    gate = MultiAttentionGate(4, 8, BACKBONE["norm_cfg"])
    nn.init.zeros_(gate.psi.weight)
    nn.init.zeros_(gate.psi.bias)
    assert torch.equal(gate.attention(torch.rand(1, 4, 6, 6), torch.rand(1, 8, 3, 3)), torch.full((1, 2, 6, 6), 0.5))


def test_each_gate_attends_for_itself():
    """A gate that is shut leaves the other one's half of the joined channels as it was."""
    gate = MultiAttentionGate(4, 8, BACKBONE["norm_cfg"]).eval()
    x, gating = torch.rand(1, 4, 6, 6), torch.rand(1, 8, 3, 3)
    joined = []
    gate.norm.register_forward_hook(lambda _, __, output: joined.append(output))
    gate(x, gating)
    with torch.no_grad():
        gate.psi.bias[1] = -100
    gate(x, gating)
    assert torch.equal(joined[0][:, :4], joined[1][:, :4])
    assert joined[1][:, 4:].abs().max() < 1e-30 < joined[0][:, 4:].abs().max()


def test_initial_weights():
    """He's: the standard deviation is sqrt(2 / fan_in)."""
    torch.manual_seed(0)
    gate = MultiAttentionGate(64, 128, BACKBONE["norm_cfg"])
    for layer, fan_in in ((gate.theta, 4 * 64), (gate.phi, 128), (gate.W, 64), (gate.combine.conv, 128)):
        assert layer.weight.std().item() == pytest.approx((2 / fan_in) ** 0.5, rel=0.05)
    assert gate.norm.weight.std().item() == pytest.approx(0.02, rel=0.3)
