"""Every method between segmentors of MMSegmentation, each of its usual heads once as student and once as teacher."""

from typing import Any

import pytest
import torch
from pairs import batch
from torch import nn

from medseg_kd.distill import METHODS, SingleTeacherDistill
from medseg_kd.models.mmseg_adapter import build_segmentor

NORM = {"type": "BN"}
RESNET = {"type": "mmseg.ResNetV1c", "depth": 18, "in_channels": 1, "base_channels": 4, "stem_channels": 4}
MIT = {"type": "mmseg.MixVisionTransformer", "in_channels": 1, "embed_dims": 4, "num_layers": (1, 1, 1, 1)}
MIT |= {"num_heads": (1, 1, 2, 2), "sr_ratios": (8, 4, 2, 1), "mlp_ratio": 2}
STDC_NET = {"type": "mmseg.STDCNet", "stdc_type": "STDCNet1", "in_channels": 1, "channels": (4, 8, 16, 32, 64)}
STDC_NET |= {"bottleneck_type": "cat", "num_convs": 4, "norm_cfg": NORM, "act_cfg": {"type": "ReLU"}}
STDC = {"type": "mmseg.STDCContextPathNet", "backbone_cfg": STDC_NET, "last_in_channels": (64, 32), "out_channels": 16}
STDC |= {"ffm_cfg": {"in_channels": 32, "out_channels": 32, "scale_factor": 4}}


def head(kind: str, in_channels: Any, in_index: Any, **options: Any) -> dict[str, Any]:
    given = {"in_channels": in_channels, "in_index": in_index, "channels": 8, "num_classes": 4, "norm_cfg": NORM}
    return {"type": f"mmseg.{kind}", **given, **options}


def segmentor(backbone: dict[str, Any], decode_head: dict[str, Any], auxiliary_head: Any = None) -> dict[str, Any]:
    heads = {"decode_head": decode_head, "auxiliary_head": auxiliary_head}
    return {"type": "mmseg.EncoderDecoder", "backbone": backbone, **heads}


AUXILIARY = head("FCNHead", 16, 2, num_convs=1)
BOUNDARY = head("STDCHead", 16, 0, num_convs=1, num_classes=2, boundary_threshold=0.1)
BOUNDARY["loss_decode"] = [
    {"type": "mmseg.CrossEntropyLoss", "use_sigmoid": True},
    {"type": "mmseg.DiceLoss", "loss_name": "loss_dice"},
]
# With the auxiliary losses that they are trained with.
SEGMENTORS = {
    "PSPNet": (segmentor(RESNET, head("PSPHead", 32, 3), AUXILIARY), {"aux.loss_ce"}),
    "DeepLabV3+": (
        segmentor(
            RESNET,
            head("DepthwiseSeparableASPPHead", 32, 3, dilations=(1, 2), c1_in_channels=4, c1_channels=4),
            AUXILIARY,
        ),
        {"aux.loss_ce"},
    ),
    "UPerNet": (segmentor(RESNET, head("UPerHead", [4, 8, 16, 32], [0, 1, 2, 3]), AUXILIARY), {"aux.loss_ce"}),
    "SegFormer": (segmentor(MIT, head("SegformerHead", [4, 4, 8, 8], [0, 1, 2, 3])), set()),
    "STDC": (
        segmentor(STDC, head("FCNHead", 32, 3, num_convs=1), [head("FCNHead", 16, 2, num_convs=1), BOUNDARY]),
        {"aux_0.loss_ce", "aux_1.loss_ce", "aux_1.loss_dice"},
    ),
}


@pytest.fixture(scope="module")
def built() -> dict[str, tuple[nn.Module, nn.Module]]:
    """Of each a student and another one as teacher, once for all methods."""
    torch.manual_seed(0)
    return {name: (build_segmentor(cfg), build_segmentor(cfg)) for name, (cfg, _) in SEGMENTORS.items()}


@pytest.mark.parametrize("method", sorted(METHODS))
@pytest.mark.parametrize("index", range(len(SEGMENTORS)))
def test_a_step_of_every_method(index: int, method: str, built: dict[str, tuple[nn.Module, nn.Module]]) -> None:
    names = list(SEGMENTORS)
    name = names[index]
    student, teacher = built[name][0], built[names[index - 1]][1]
    student.zero_grad()
    algorithm = SingleTeacherDistill(student, teacher, {"type": method})
    losses = algorithm(*batch((64, 64)), mode="loss")
    own = {each for each in losses if each.startswith("aux") and "loss" in each}
    assert own == SEGMENTORS[name][1] and losses["decode.loss_ce"] > 0
    distilled = [value for each, value in losses.items() if each.startswith("distill.")]
    stages = min(len(student.feature_info), len(teacher.feature_info))
    assert len(distilled) == (stages if method == "AT" else 1)
    assert all(value.isfinite() and value > 0 for value in distilled)
    sum(distilled).backward()
    moved = [parameter.grad for parameter in student.backbone.parameters() if parameter.grad is not None]
    assert moved and all(each.isfinite().all() for each in moved) and sum(each.abs().sum() for each in moved) > 0
    assert all(parameter.grad is None for parameter in teacher.parameters())
