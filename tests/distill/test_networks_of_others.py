"""Every method between networks of other libraries: smp to smp, MMSegmentation's SegFormer to ours, MONAI's to smp."""

from typing import Any

import pytest
import torch
from pairs import batch, segmentor
from torch import nn

from medseg_kd.distill import SingleTeacherDistill
from medseg_kd.distill.connectors import ABF
from medseg_kd.errors import UserError
from medseg_kd.models import UNet
from medseg_kd.models.mmseg_adapter import build_segmentor
from medseg_kd.registry import MODELS
from tests.torchvision_operators import smp_and_timm

smp_and_timm()


def of(network: dict[str, Any], **options: Any) -> dict[str, Any]:
    losses = [{"type": "mmseg.CrossEntropyLoss"}]
    return {"type": "Segmentor", "num_classes": 4, "network": network, "losses": losses, **options}


def smp_unet(encoder: str) -> dict[str, Any]:
    return of({"type": "smp.Unet", "encoder_name": encoder, "decoder_channels": (32, 16, 16, 8, 8)})


def segformer() -> dict[str, Any]:
    """MMSegmentation's, with the smallest MiT that there can be."""
    backbone = {"type": "mmseg.MixVisionTransformer", "in_channels": 1, "embed_dims": 4, "num_layers": (1, 1, 1, 1)}
    backbone |= {"num_heads": (1, 1, 2, 2), "sr_ratios": (8, 4, 2, 1), "mlp_ratio": 2}
    head = {"type": "mmseg.SegformerHead", "num_classes": 4, "in_channels": [4, 4, 8, 8], "channels": 8}
    head |= {"in_index": [0, 1, 2, 3], "norm_cfg": {"type": "BN"}}
    return {"type": "mmseg.EncoderDecoder", "backbone": backbone, "decode_head": head}


# Student, teacher, and for each pair of stages the channels of both, shallow to deep.
PAIRS = {
    "smp.Unet(resnet34) to smp.Unet(resnet18)": (
        smp_unet("resnet18"),
        smp_unet("resnet34"),
        [(64, 64), (64, 64), (128, 128), (256, 256), (512, 512)],
    ),
    "SegFormer to U-Net-R18": (segmentor(UNet), segformer(), [(4, 4), (8, 4), (16, 8), (32, 8)]),
    "monai.SegResNet to smp.Unet(resnet18)": (
        smp_unet("resnet18"),
        of({"type": "monai.SegResNet", "init_filters": 8}),
        [(64, 8), (128, 16), (256, 32), (512, 64)],
    ),
}


@pytest.fixture(scope="module")
def built() -> dict[str, tuple[nn.Module, nn.Module]]:
    """Students and teachers, once for all methods."""
    torch.manual_seed(0)
    return {name: (build_segmentor(student), build_segmentor(teacher)) for name, (student, teacher, _) in PAIRS.items()}


def encoder_of(student: nn.Module) -> nn.Module:
    return getattr(student.network, "encoder", None) or student.network.backbone


@pytest.mark.parametrize("method", ["KD", "AT", "DKD", "DIST", "CWD", "ReviewKD"])
@pytest.mark.parametrize("pair", PAIRS)
def test_a_step_of_every_method(pair, method, built):
    student, teacher = built[pair]
    student.zero_grad()
    algorithm = SingleTeacherDistill(student, teacher, {"type": method})
    losses = algorithm(*batch((64, 64)), mode="loss")
    distilled = [value for name, value in losses.items() if name.startswith("distill.")]
    channels = PAIRS[pair][2]
    assert len(distilled) == (len(channels) if method == "AT" else 1)
    assert all(value.isfinite() and value > 0 for value in distilled)
    sum(distilled).backward()
    # Of a stem, say, where the first stage has no partner, everything below the first tapped one has a gradient.
    moved = [parameter.grad for parameter in encoder_of(student).parameters() if parameter.grad is not None]
    assert moved and all(each.isfinite().all() for each in moved) and sum(each.abs().sum() for each in moved) > 0
    assert all(parameter.grad is None for parameter in teacher.parameters())
    connectors = algorithm.distiller.connectors
    if method == "ReviewKD":
        assert all(isinstance(each, ABF) for each in connectors.values())
        widths = [(each.conv1[0].in_channels, each.conv2[0].out_channels) for each in connectors.values()]
        assert widths == channels
    else:
        assert not len(connectors)


def test_cwd_on_a_stage(built):
    student, teacher = built["SegFormer to U-Net-R18"]
    algorithm = SingleTeacherDistill(student, teacher, {"type": "CWD", "stage": 0, "tau": 1})
    assert algorithm(*batch((64, 64)), mode="loss")["distill.loss_cwd"] > 0
    recorded = algorithm.distiller.teacher_recorders.recorders["stage"]
    assert (recorded.source, algorithm.distiller.connectors["stage"].conv.out_channels) == ("backbone", 4)


def test_the_student_learns_from_the_teacher_s_stages(built):
    """What a recorder of a stage holds is what the encoder hands to the decoder."""
    student, teacher = built["SegFormer to U-Net-R18"]
    algorithm = SingleTeacherDistill(student, teacher, {"type": "AT"})
    algorithm.distiller.clear = lambda: None
    images, labels = batch((64, 64))
    algorithm(images, labels, mode="loss")
    with torch.no_grad():
        features = teacher.eval().extract_feat(images)
    recorders = algorithm.distiller.teacher_recorders.recorders
    assert list(recorders) == [f"stage{stage}" for stage in range(4)]
    for recorder, feature in zip(recorders.values(), features, strict=True):
        assert torch.equal(recorder.get(), feature)


def test_stages_that_a_config_names():
    """A network of one's own that tells nothing, in place of what is not known."""
    network = {"type": "monai.HighResNet", "layer_params": LAYERS}
    with pytest.raises(UserError, match="HighResNet has no feature_info.*model.feature_info=.*dict.module"):
        SingleTeacherDistill(of(network), MODELS.build(segmentor(UNet)), {"type": "ReviewKD"})
    named = [{"module": "network.blocks.0"}, {"module": "network.blocks.1", "channels": 8}]
    algorithm = SingleTeacherDistill(
        of(network, feature_info=named), MODELS.build(segmentor(UNet)), {"type": "ReviewKD", "mid_channel": 8}
    )
    widths = [
        (each.conv1[0].in_channels, each.conv2[0].out_channels) for each in algorithm.distiller.connectors.values()
    ]
    assert widths == [(4, 16), (8, 32)]
    assert algorithm(*batch(), mode="loss")["distill.loss_reviewkd"] > 0


LAYERS = (
    {"name": "conv_0", "n_features": 4, "kernel_size": 3},
    {"name": "res_1", "n_features": 8, "kernels": (3, 3), "repeat": 1},
    {"name": "conv_1", "n_features": 8, "kernel_size": 1},
    {"name": "conv_2", "kernel_size": 1},
)
