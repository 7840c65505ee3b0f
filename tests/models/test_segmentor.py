"""The segmentor around networks of three kinds: ours, MONAI's and the user's own."""

import pytest
import torch
from monai.networks.nets import BasicUNet

from medseg_kd.errors import UserError
from medseg_kd.models import FCN, SegDataPreProcessor, SlicePreprocessor, UNet
from medseg_kd.registry import MODELS
from tests.models.segmentors import BACKBONE, CLASSES, MONAI, Pointwise, build


@pytest.mark.parametrize("kind", [BasicUNet, "monai.networks.nets.BasicUNet"])
def test_counts_are_filled_in_where_the_constructor_takes_them(kind):
    network = build({**MONAI, "type": kind}).network
    assert type(network) is BasicUNet
    assert network.final_conv.out_channels == CLASSES
    assert network.conv_0.conv_0.conv.in_channels == 1
    heads = build(dict(type=Pointwise)).network.heads
    assert (heads[0].in_channels, heads[0].out_channels) == (1, CLASSES)


def test_what_the_config_says_stays():
    head = build(dict(type=Pointwise, in_channels=3, num_classes=7)).network.heads[0]
    assert (head.in_channels, head.out_channels) == (3, 7)
    config = dict(type=Pointwise)
    build(config)
    assert config == dict(type=Pointwise)


def test_channels_from_the_config_to_the_logits():
    model = build(in_channels=4)
    assert model.in_channels == model.network.heads[0].in_channels == 4
    assert model(torch.rand(2, 4, 6, 6)).shape == (2, CLASSES, 6, 6)
    with pytest.raises(UserError, match=r"Pointwise takes 4 channel\(s\) \(model.in_channels\), but .* have 1"):
        model(torch.rand(2, 1, 6, 6))


def test_two_numbers_of_channels():
    with pytest.raises(UserError, match=r"model.in_channels is 4, but Pointwise takes 3"):
        build(dict(type=Pointwise, in_channels=3), in_channels=4)


@pytest.mark.parametrize("wrong", [0, "2", None, True])
def test_no_number_of_classes(wrong):
    with pytest.raises(UserError, match=r"model.num_classes is .*: expected a number"):
        build(num_classes=wrong)


def test_a_whole_model_is_no_network():
    """Its own losses and auxiliary heads would be dropped."""
    head = dict(type="mmseg.FCNHead", num_classes=CLASSES, in_channels=32, channels=8, in_index=3)
    with pytest.raises(UserError, match=r"model.network is a EncoderDecoder, a whole model .* in place of"):
        build(dict(type="mmseg.EncoderDecoder", backbone=BACKBONE, decode_head=head))


def test_a_module_is_taken_as_it_is():
    network = Pointwise(CLASSES, 1)
    assert build(network).network is network


def test_without_a_runner_and_by_name():
    model = MODELS.build(
        dict(
            type="Segmentor",
            network=dict(type="UNet", backbone=BACKBONE),
            num_classes=CLASSES,
            losses=[dict(type="mmseg.CrossEntropyLoss"), dict(type="SoftDiceLoss")],
            data_preprocessor=dict(type="SlicePreprocessor", size=(32, 32)),
        )
    )
    assert isinstance(model.network, UNet)
    assert model.data_preprocessor.size == (32, 32)
    assert isinstance(build().data_preprocessor, SlicePreprocessor)


@pytest.mark.parametrize("network", [dict(type=UNet, backbone=BACKBONE), dict(type=FCN, backbone=BACKBONE, channels=8)])
def test_feature_info_resolves_from_the_segmentor(network):
    model = build(network, output_weights=(1, 0.4)).eval()
    shapes = {}
    for stage in model.feature_info:
        model.get_submodule(stage["module"]).register_forward_hook(
            lambda _, __, out, name=stage["module"]: shapes.update({name: tuple(out.shape)})
        )
    with torch.no_grad():
        model(torch.rand(1, 1, 64, 64))
    assert len(shapes) == 4
    for stage in model.feature_info:
        side = 64 // stage["reduction"]
        assert shapes[stage["module"]] == (1, stage["channels"], side, side)


def test_a_network_that_tells_nothing():
    assert build().feature_info == []
    assert build().size_divisor == 1


def test_the_preprocessor_of_mmsegmentation_is_replaced() -> None:
    scaling = dict(mean=[123.7], std=[58.4], size=(16, 16))
    model = build(data_preprocessor=dict(type="mmseg.SegDataPreProcessor", **scaling))
    assert type(model.data_preprocessor) is SegDataPreProcessor
    assert model.data_preprocessor.values == ([123.7], [58.4], False)
