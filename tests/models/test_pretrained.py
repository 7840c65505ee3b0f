"""``init_cfg=dict(type='Pretrained', ...)``: whole or refused."""

import logging
import math

import pytest
import torch
from mmengine.logging import MMLogger
from mmseg.models.backbones import ResNet, ResNetV1c
from torch import nn

from medseg_kd.errors import UserError
from medseg_kd.models import MedNeXt, MISSFormer, Pretrained, SwinUNETR, TransUNet, UNet
from medseg_kd.registry import MODELS
from tests.models import test_transunet

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


@pytest.fixture
def log(caplog):
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    with caplog.at_level(logging.INFO):
        yield caplog
    logger.removeHandler(caplog.handler)


@pytest.mark.parametrize(("kind", "stem"), [(ResNet, "conv1.weight"), (ResNetV1c, "stem.0.weight")])
def test_grey_gives_what_the_repeated_image_gave(kind, stem, tmp_path, log):
    weights = imagenet(kind)
    torch.save({"state_dict": weights}, tmp_path / "imagenet.pth")
    grey = build(kind, tmp_path / "imagenet.pth")
    assert f"{stem} summed over its 3 input channels" in log.text
    colour = build(kind, tmp_path / "imagenet.pth", in_channels=3)
    assert torch.equal(colour.state_dict()[stem], weights[stem])
    x = torch.rand(1, 1, 32, 32)
    with torch.no_grad():
        for given, wanted in zip(grey(x), colour(x.repeat(1, 3, 1, 1)), strict=True):
            torch.testing.assert_close(given, wanted, rtol=1e-4, atol=1e-5)


def timm_adapted(weight: torch.Tensor, channels: int) -> torch.Tensor:
    """What timm's ``adapt_input_conv`` gives, in its own order of steps, of a kernel of three channels."""
    if channels == 1:
        return weight.sum(dim=1, keepdim=True)
    repeated = torch.cat([weight] * math.ceil(channels / 3), dim=1)[:, :channels]
    return repeated * (3 / float(channels))


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 6, 7])
@pytest.mark.parametrize(("kind", "stem"), [(ResNet, "conv1.weight"), (ResNetV1c, "stem.0.weight")])
def test_a_stem_of_any_number_of_channels(kind, stem, channels, tmp_path, log):
    weights = imagenet(kind)
    torch.save(weights, tmp_path / "imagenet.pth")
    state = build(kind, tmp_path / "imagenet.pth", in_channels=channels).state_dict()
    torch.testing.assert_close(state[stem], timm_adapted(weights[stem], channels))
    assert all(torch.equal(value, weights[key]) for key, value in state.items() if key != stem)
    told = [line for line in log.messages if "input channels" in line]
    rules = {1: "summed over its 3", 3: None}
    rule = rules.get(channels, f"repeated cyclically, times 3/{channels}, from its 3")
    wanted = [f"{tmp_path}/imagenet.pth: {stem} {rule} input channels for {channels}-channel input"]
    assert told == (wanted if rule else [])


NETWORKS = {
    MedNeXt: dict(channels=4, block_counts=(1,) * 9),
    MISSFormer: dict(channels=(16, 32, 80), heads=(1, 2, 5), depths=(1, 1, 1), bridge_layers=1),
    SwinUNETR: dict(feature_size=12, depths=(1, 1, 1, 1)),
    TransUNet: dict(img_size=64, **test_transunet.SMALL),
    UNet: dict(backbone=dict(type=ResNetV1c, **SMALL)),
}


@pytest.mark.parametrize("network", NETWORKS)
def test_a_network_of_rgb_images_seen_by_one_of_six_channels(network, tmp_path, log):
    """An image whose channels are R, G, B, R, G, B gives what R, G, B gave."""
    torch.manual_seed(0)
    config = dict(type=network, num_classes=3, **NETWORKS[network])
    colour = MODELS.build({**config, "in_channels": 3}).eval()
    torch.save(colour.state_dict(), tmp_path / "rgb.pth")
    init_cfg = dict(type="Pretrained", checkpoint=str(tmp_path / "rgb.pth"))
    net = MODELS.build({**config, "in_channels": 6, "init_cfg": init_cfg})
    Pretrained(str(tmp_path / "rgb.pth"))(net)
    x = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        wanted, given = colour(x), net.eval()(x.repeat(1, 2, 1, 1))
    # TransUNet's standardisation has an eps beside the variance of its filters, which the factor of 3 / 6 changes.
    near = 1e-2 if network is TransUNet else 1e-4
    torch.testing.assert_close(given, wanted, rtol=0, atol=near * float(wanted.max() - wanted.min()))
    assert len([line for line in log.messages if "times 3/6" in line]) == 1


def test_a_kernel_that_does_not_see_the_image_is_not_fitted(tmp_path):
    """Three channels inside the network where the checkpoint has as many as the image: another network, refused."""

    def network(inside: int, image: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(image, 8, 3), nn.Conv2d(8, inside, 1), nn.Conv2d(inside, 2, 1))

    torch.save(network(3, 3).state_dict(), tmp_path / "a.pth")
    with pytest.raises(UserError, match=r"1\.weight: checkpoint \(3, 8, 1, 1\), model \(5, 8, 1, 1\)"):
        Pretrained(str(tmp_path / "a.pth"))(network(5, 4))
    net = network(3, 4)
    Pretrained(str(tmp_path / "a.pth"))(net)
    assert net[0].weight.shape[1] == 4 and net[2].weight.shape[1] == 3


@pytest.mark.parametrize(
    "value", [torch.ones(8, 3, 3, 3, dtype=torch.complex64), torch.ones(8, 3, 3, 3).byte(), "ones"]
)
def test_a_kernel_that_is_not_of_floating_point_numbers_is_refused(value, tmp_path):
    """It is not fitted either, which would make floating-point numbers of integers."""
    torch.save({"0.weight": value, "0.bias": torch.ones(8)}, tmp_path / "a.pth")
    with pytest.raises(UserError, match=r"1 of another type: 0\.weight: checkpoint (complex64|uint8|str), model"):
        Pretrained(str(tmp_path / "a.pth"))(nn.Sequential(nn.Conv2d(5, 8, 3)))


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
