"""``init_cfg=dict(type='Pretrained', ...)``: whole or refused."""

import logging

import pytest
import torch
from mmengine.logging import MMLogger
from mmseg.models.backbones import ResNet, ResNetV1c
from torch import nn

from medseg_kd.errors import UserError
from medseg_kd.models import Pretrained
from medseg_kd.registry import MODELS

SMALL = dict(depth=18, base_channels=4, stem_channels=4, norm_cfg=dict(type="BN"))


def imagenet(kind: type, **options) -> dict[str, torch.Tensor]:
    """Weights of a classification network in three colours, with its classifier."""
    torch.manual_seed(1)
    state = kind(in_channels=3, **SMALL, **options).state_dict()
    return {**state, "fc.weight": torch.rand(10, 32), "fc.bias": torch.rand(10)}


def build(kind: type, checkpoint, in_channels: int = 1, **init_cfg) -> nn.Module:
    init = dict(type="Pretrained", checkpoint=str(checkpoint), **init_cfg)
    network = MODELS.build(dict(type=kind, in_channels=in_channels, init_cfg=init, **SMALL))
    network.init_weights()
    network.eval()
    return network


@pytest.mark.parametrize(("kind", "stem"), [(ResNet, "conv1.weight"), (ResNetV1c, "stem.0.weight")])
def test_grey_gives_what_the_repeated_image_gave(kind, stem, tmp_path, caplog):
    weights = imagenet(kind)
    torch.save({"state_dict": weights}, tmp_path / "imagenet.pth")
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    with caplog.at_level(logging.INFO):
        grey = build(kind, tmp_path / "imagenet.pth")
    logger.removeHandler(caplog.handler)
    assert f"{stem} summed over its 3 input channels" in caplog.text
    colour = build(kind, tmp_path / "imagenet.pth", in_channels=3)
    assert torch.equal(colour.state_dict()[stem], weights[stem])
    x = torch.rand(1, 1, 32, 32)
    with torch.no_grad():
        for given, wanted in zip(grey(x), colour(x.repeat(1, 3, 1, 1)), strict=True):
            torch.testing.assert_close(given, wanted, rtol=1e-4, atol=1e-5)


def test_weights_of_another_depth_are_refused(tmp_path):
    torch.save(imagenet(ResNetV1c), tmp_path / "v1c.pth")
    with pytest.raises(UserError, match=r"(?s)v1c.pth does not fit ResNet: .*conv1.weight.*stem.0.weight"):
        build(ResNet, tmp_path / "v1c.pth")


def test_a_part_of_a_checkpoint(tmp_path):
    torch.save({f"encoder.{key}": value for key, value in imagenet(ResNet).items()}, tmp_path / "a.pth")
    network = build(ResNet, tmp_path / "a.pth", prefix="encoder.")
    assert torch.equal(network.layer1[0].conv1.weight, imagenet(ResNet)["layer1.0.conv1.weight"])
    with pytest.raises(UserError, match=r"no weights below 'decoder.'; its names begin with encoder"):
        build(ResNet, tmp_path / "a.pth", prefix="decoder")


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match="checkpoint not found"):
        build(ResNet, tmp_path / "none.pth")


def test_a_network_with_a_way_of_its_own(tmp_path):
    @MODELS.register_module(force=True)
    class Own(nn.Module):
        asked = None

        def load_pretrained(self, checkpoint):
            self.asked = checkpoint

    network = Own()
    Pretrained("own.npz")(network)
    assert network.asked == "own.npz"
