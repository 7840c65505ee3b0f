"""ImageNet weights of a ResNet."""

import pytest
import torch
from mmseg.models.backbones import ResNet, ResNetV1c

from medseg_kd.models.weights.resnet import convert


def released(network: type[ResNet], layout: str) -> dict[str, torch.Tensor]:
    """Weights as the classification code saves them."""
    prefix = "backbone." if layout == "mmpretrain" else ""
    state = {prefix + key: value for key, value in network(depth=50).state_dict().items()}
    if layout == "torchvision":  # its files are older than the counters
        state = {key: value for key, value in state.items() if "num_batches_tracked" not in key}
    classifier = "head.fc" if layout == "mmpretrain" else "fc"
    return {**state, f"{classifier}.weight": torch.ones(1000, 2048), f"{classifier}.bias": torch.ones(1000)}


@pytest.mark.parametrize(
    ("network", "layout", "stem"),
    [
        (ResNet, "torchvision", ["conv1.weight", "bn1.weight"]),
        (ResNet, "mmpretrain", ["conv1.weight"]),
        (ResNetV1c, "open-mmlab", ["stem.0.weight", "stem.3.weight", "stem.6.weight", "stem.7.running_var"]),
    ],
)
def test_every_weight_finds_its_place(network, layout, stem):
    state = released(network, layout)
    converted = convert(state)
    net = network(depth=50)
    net.load_state_dict(converted)
    for key in [*stem, "layer1.0.downsample.0.weight", "layer4.2.bn3.bias"]:
        given = state.get(key, state.get(f"backbone.{key}"))
        assert torch.equal(net.state_dict()[key], given)
    assert converted[stem[0]].shape[1] == 3


def test_it_is_done_once():
    state = convert(released(ResNetV1c, "open-mmlab"))
    assert convert(state).keys() == state.keys()


def test_what_is_not_known_stays():
    assert list(convert({"decode_head.conv_seg.weight": torch.ones(1)})) == ["decode_head.conv_seg.weight"]
