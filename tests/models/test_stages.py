"""Stages of networks that tell little of themselves."""

import pytest
import torch
from torch import Tensor, nn

from medseg_kd.errors import UserError
from medseg_kd.models import Segmentor
from medseg_kd.models.mmseg_adapter import build_segmentor
from medseg_kd.registry import MODELS

DOWN = dict(channels=(4, 8, 16), strides=(2, 2))
DEEP = dict(kernel_size=[3] * 3, strides=[1, 2, 2], upsample_kernel_size=[2] * 2, filters=(4, 8, 16))
# Channels and reductions, worked out from what their documentation says.
OF_MONAI = {
    "AttentionUnet": (DOWN, [(4, 1), (8, 2), (16, 4)]),
    "BasicUNet": (dict(features=(4, 4, 8, 8, 16, 4)), [(4, 1), (4, 2), (8, 4), (8, 8), (16, 16)]),
    "DynUNet": (DEEP, [(4, 1), (8, 2), (16, 4)]),
    "FlexibleUNet": (dict(backbone="efficientnet-b0"), [(16, 2), (24, 4), (40, 8), (112, 16), (320, 32)]),
    "SegResNet": (dict(init_filters=8), [(8, 1), (16, 2), (32, 4), (64, 8)]),
    "SegResNetDS": (dict(init_filters=8), [(8, 1), (16, 2), (32, 4), (64, 8)]),
    "SwinUNETR": (dict(feature_size=12), [(12, 2), (24, 4), (48, 8), (96, 16), (192, 32)]),
    "UNet": (DOWN, [(4, 2), (8, 4)]),
}


class Bare(nn.Module):
    """Two stages, then both as a tuple, and logits; takes no side above 64."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(1, 4, 3, 2, 1), nn.BatchNorm2d(4))
        self.second = nn.Sequential(nn.Conv2d(4, 8, 3, 2, 1), nn.Dropout(0.5))
        self.both = nn.Identity()
        self.last = nn.Conv2d(8, num_classes, 1)
        self.never = nn.Conv2d(8, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        first = self.first(x)
        _, second = self.both((first, self.second(first)))
        if x.shape[-1] > 64:
            raise ValueError("the grid is 64x64")
        return self.last(second)


def bare(*stages: dict, size: int | None = 64) -> Segmentor:
    preprocessor = dict(type="SlicePreprocessor", size=(size, size)) if size else None
    network = dict(type=Bare)
    return Segmentor(network, num_classes=4, data_preprocessor=preprocessor, feature_info=stages)


def told(model: nn.Module) -> list[tuple[int, int]]:
    return [(stage["channels"], stage["reduction"]) for stage in model.feature_info]


@pytest.mark.parametrize("name", OF_MONAI)
def test_the_encoder_of_monai_s_networks(name):
    options, expected = OF_MONAI[name]
    model = MODELS.build(dict(type=Segmentor, num_classes=4, network=dict(type=f"monai.{name}", **options)))
    assert told(model) == expected


def test_the_backbone_of_mmsegmentation_s_models():
    backbone = dict(type="mmseg.UNet", in_channels=1, base_channels=4, upsample_cfg=dict(type="mmseg.InterpConv"))
    head = dict(type="mmseg.FCNHead", num_classes=4, in_channels=4, channels=4, in_index=4)
    model = build_segmentor(dict(type="mmseg.EncoderDecoder", backbone=backbone, decode_head=head))
    # It returns them deep to shallow.
    assert told(model) == [(4, 1), (8, 2), (16, 4), (32, 8), (64, 16)]
    assert [stage["data_idx"] for stage in model.feature_info] == [4, 3, 2, 1, 0]


def test_what_a_config_leaves_out_is_found_and_nothing_changes():
    model = bare(dict(module="network.first"), dict(module="network.second", channels=8))
    assert model.feature_info == [
        dict(module="network.first", channels=4, reduction=2),
        dict(module="network.second", channels=8, reduction=4),
    ]
    network = model.network
    network.feature_info = [dict(module="both")]
    random, training = torch.get_rng_state(), [module.training for module in model.modules()]
    fresh = Segmentor(network, num_classes=4)
    assert [stage["data_idx"] for stage in fresh.feature_info] == [0, 1] and told(fresh) == [(4, 2), (8, 4)]
    assert torch.equal(random, torch.get_rng_state())
    assert training == [module.training for module in model.modules()] and not network.first[1].running_mean.any()
    assert not [module for module in fresh.modules() if module._forward_hooks]


def test_a_network_that_stops_after_its_stages():
    assert told(bare(dict(module="network.first"), size=None)) == [(4, 2)]
    with pytest.raises(UserError, match=r"last returns .* \(1, 1, 128, 128\) \(the grid is 64x64\).*preprocessor.size"):
        bare(dict(module="network.last"), size=None)


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ([dict(module="network.frist")], r"model.feature_info: Segmentor \(Bare\) has no module .*\n    network.first"),
        ([dict(module="network.first", channels=8)], r"\[0\]: .* gives channels=4, reduction=2, not channels=8"),
        ([dict(module="network.first", reduction=4)], "not reduction=4. Correct it, or leave it out"),
        ([dict(module="network.both", channels=8)], r"returns data_idx=0: channels=4, .*data_idx=1: channels=8"),
        ([dict(module="network.both", data_idx=2)], "Choose one of them with data_idx"),
        ([dict(module="network.never")], "never returns is not known: it does not run"),
        ([dict(module="network.second"), dict(module="network.first")], "reductions 4, 2. Write them shallow to deep"),
        ([dict(module="network.first", chanels=4)], r"feature_info\[0\] is .*'chanels': 4.*, expected dict\(module="),
        (["network.first"], r"feature_info\[0\] is 'network.first', expected dict\(module="),
    ],
)
def test_wrong_entries(stages, message):
    with pytest.raises(UserError, match=message) as refused:
        bare(*stages)
    assert len(str(refused.value).splitlines()) <= 7
