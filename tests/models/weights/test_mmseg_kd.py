"""Weights of 605671435/mmseg-kd, from networks with its names and layers."""

import pytest
import torch
from torch import nn

from medseg_kd.models import FCN, AttentionUNet, UNet
from medseg_kd.models.weights import mmseg_kd
from tests.models.test_fcn import BACKBONE
from tests.models.weights.mmseg_kd_networks import trained


def ours(kind: str, norm: str = "BN") -> nn.Module:
    norm_cfg = dict(type=norm)
    backbone = dict(depth=18, **{**BACKBONE, "norm_cfg": norm_cfg})
    if kind == "fcn":
        return FCN(backbone, num_classes=9, in_channels=1, channels=128, dropout_ratio=0.0)
    network = UNet if kind == "unet" else AttentionUNet
    return network(backbone, num_classes=9, in_channels=1, norm_cfg=norm_cfg, dropout_ratio=0.0)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    ("kind", "norm"),
    [("fcn", "BN"), ("unet", "BN"), ("unet", "IN"), ("attn_unet", "BN")],
)
def test_the_logits_on_grey_images_are_the_same(kind, norm, training):
    theirs, mine = trained(kind, norm).train(training), ours(kind, norm).train(training)
    mine.load_state_dict(mmseg_kd.convert(theirs.state_dict()))
    x = torch.rand(2, 1, 64, 48)
    with torch.no_grad():
        wanted, given = theirs(x.repeat(1, 3, 1, 1)), mine(x)
    for logits, own in zip(wanted, given if training else (given,), strict=False):
        assert own.shape == logits.shape
        torch.testing.assert_close(own, logits, rtol=0, atol=1e-4 * float(logits.max() - logits.min()))


def test_what_is_not_known_stays_for_strict_loading_to_refuse():
    state = {**trained("unet").state_dict(), "neck.decoder.0.CBAM.weight": torch.ones(1), "ema.x": torch.ones(1)}
    del state["neck.decoder.2.conv_block.convs.0.conv.weight"]
    missing, unexpected = ours("unet").load_state_dict(mmseg_kd.convert(state), strict=False)
    assert missing == ["decoder.0.fuse.0.conv.weight"]
    assert sorted(unexpected) == ["decoder.2.CBAM.weight", "ema.x"]


def test_a_gate_that_is_not_whole():
    state = trained("attn_unet").state_dict()
    del state["neck.decoder.0.MultiAttentionBlock2D.gate_block_2.theta.weight"]
    missing, unexpected = ours("attn_unet").load_state_dict(mmseg_kd.convert(state), strict=False)
    assert missing == ["decoder.2.gate.theta.weight"]
    assert unexpected == ["decoder.2.gate.gate_block_1.theta.weight"]
