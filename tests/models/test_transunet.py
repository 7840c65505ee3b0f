"""TransUNet."""

import copy
from typing import ClassVar

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import ndimage

from medseg_kd.models import TransUNet
from medseg_kd.models.networks.resnet_v2 import Bottleneck, GreyStdConv2d, StdConv2d
from medseg_kd.models.networks.vit import Attention, PositionEmbedding, resize_grid
from medseg_kd.registry import MODELS
from tests.models.network_contract import NetworkContract

SMALL = dict(
    width=32,
    depths=(1, 2, 1),
    hidden_channels=24,
    num_layers=2,
    num_heads=3,
    mlp_channels=40,
    middle_channels=16,
    decoder_channels=(16, 8, 8, 8),
)


class TestTransUNet(NetworkContract):
    network = dict(type=TransUNet, num_classes=9, img_size=(64, 96), **SMALL)

    def test_stages_are_what_the_decoder_consumes(self, net):
        stages = [(stage["channels"], stage["reduction"]) for stage in net.feature_info]
        assert stages == [(32, 2), (128, 4), (256, 8), (24, 16)]

    def test_grey_is_the_colour_image_that_repeats_it(self, net):
        colour = MODELS.build({**self.network, "in_channels": 3}).eval()
        colour.load_state_dict(net.state_dict())
        x = torch.rand(1, 1, 64, 64)
        with torch.no_grad():
            torch.testing.assert_close(net.eval()(x), colour(x.expand(1, 3, 64, 64)), rtol=1e-4, atol=1e-4)

    @pytest.mark.parametrize(("channels", "filters"), [(1, 3), (3, 3), (4, 4), (7, 7)])
    def test_the_stem_s_filters(self, channels, filters):
        conv = MODELS.build({**self.network, "in_channels": channels}).resnet.root.conv
        assert conv.weight.shape == (32, filters, 7, 7)
        assert conv.standardised().shape == (32, channels, 7, 7)

    def test_the_pooling_shortens_the_first_stage_by_a_row_and_a_column(self, net):
        with torch.no_grad():
            _, skips = net.resnet(torch.rand(1, 1, 64, 96))
        fourth = skips[1]
        assert fourth.shape[-2:] == (16, 24)
        assert not fourth[..., -1, :].any() and not fourth[..., -1].any()
        assert fourth[..., :-1, :-1].any(1).all()

    def test_positions_tell_equal_patches_apart(self, net):
        vit = copy.deepcopy(net.vit).eval()
        same = torch.rand(1, 512, 1, 1).expand(1, 512, 3, 5)
        with torch.no_grad():
            alike = vit(same)
            torch.nn.init.normal_(vit.position_embedding.grid)
            apart = vit(same)
        torch.testing.assert_close(alike, alike[..., :1, :1].expand_as(alike))
        assert apart.flatten(2).std(-1).min() > 1e-2


@pytest.mark.parametrize(("img_size", "count"), [(224, 105_277_081), (512, 105_912_985)])
def test_published_size(img_size, count):
    with torch.device("meta"):
        net = TransUNet(num_classes=9, img_size=img_size)
    assert sum(p.numel() for p in net.parameters()) == count
    assert [(stage["channels"], stage["reduction"]) for stage in net.feature_info] == [
        (64, 2),
        (256, 4),
        (512, 8),
        (768, 16),
    ]


class TestStdConv2d:
    def test_filters_have_mean_0_and_variance_1(self):
        conv = StdConv2d(5, 7, 3)
        filters = conv.standardised().flatten(1)
        variance = conv.weight.flatten(1).var(1, correction=0)
        torch.testing.assert_close(filters.mean(1), torch.zeros(7), atol=1e-6, rtol=0)
        torch.testing.assert_close(filters.var(1, correction=0), variance / (variance + 1e-5))

    def test_it_gives_what_its_filters_give(self):
        conv, x = StdConv2d(5, 7, 3, stride=2), torch.rand(2, 5, 9, 8)
        torch.testing.assert_close(conv(x), F.conv2d(x, conv.standardised(), stride=2, padding=1))

    @pytest.mark.parametrize("conv", [StdConv2d(4, 8, 3), GreyStdConv2d(8, 7, 2)], ids=["conv", "grey"])
    def test_fixed_filters_give_the_same_and_are_no_part_of_the_weights(self, conv):
        x, names = torch.rand(2, 1 if isinstance(conv, GreyStdConv2d) else 4, 9, 9), list(conv.state_dict())
        expected = conv(x)
        conv.fix(None)
        assert torch.equal(conv(x), expected)
        assert list(conv.state_dict()) == names
        conv.fix(torch.bfloat16)
        assert conv.fixed.dtype == torch.bfloat16 and conv.weight.dtype == torch.float32

    def test_a_grey_stem_sums_after_it_has_standardised(self):
        grey, colour = GreyStdConv2d(8, 7, 2), StdConv2d(3, 8, 7, 2)
        grey.load_state_dict(colour.state_dict())
        x = torch.rand(2, 1, 16, 16)
        torch.testing.assert_close(grey(x), colour(x.repeat(1, 3, 1, 1)), rtol=1e-4, atol=1e-5)
        summed = F.conv2d(x, F.layer_norm(colour.weight.sum(1, keepdim=True), (1, 7, 7)), stride=2, padding=3)
        assert not torch.allclose(grey(x), summed, atol=0.1)


def test_a_residual_unit_adds_its_input():
    unit = Bottleneck(128, 128)
    torch.nn.init.zeros_(unit.gn3.weight)
    x = torch.randn(1, 128, 4, 4)
    assert torch.equal(unit(x), x.relu())


def test_attention_equals_the_formula():
    attention = Attention(12, num_heads=3)
    x = torch.rand(2, 5, 12)
    query, key, value = (part.reshape(2, 5, 3, 4).transpose(1, 2) for part in attention.qkv(x).chunk(3, dim=-1))
    weights = (query @ key.transpose(-1, -2) / 4**0.5).softmax(-1)
    torch.testing.assert_close(attention(x), attention.out((weights @ value).transpose(1, 2).reshape(2, 5, 12)))


class TestPositionEmbedding:
    grids: ClassVar = [(14, 14), (24, 14), (14, 32), (7, 3)]

    def test_its_own_grid_is_added_as_it_is(self):
        positions = PositionEmbedding(4, (5, 6))
        torch.nn.init.normal_(positions.grid)
        x = torch.rand(2, 4, 5, 6)
        assert torch.equal(positions(x), x + positions.grid)

    @pytest.mark.parametrize(("old", "new"), grids)
    def test_another_grid_is_resized_as_scipy_zooms(self, old, new):
        tokens = np.random.default_rng(0).standard_normal((old, old, 3))
        wanted = ndimage.zoom(tokens, (new / old, new / old, 1), order=1)
        given = resize_grid(torch.from_numpy(tokens).permute(2, 0, 1)[None], (new, new))[0].permute(1, 2, 0)
        np.testing.assert_allclose(given.numpy(), wanted, atol=1e-12)

    def test_loading_another_grid_keeps_the_parameter_and_changes_its_shape(self):
        positions = PositionEmbedding(4, (5, 6))
        parameter = positions.grid
        wanted = torch.rand(1, 4, 3, 8)
        positions.load_state_dict({"grid": wanted})
        assert positions.grid is parameter
        assert torch.equal(parameter, wanted)

    def test_loading_other_channels_is_refused(self):
        with pytest.raises(RuntimeError, match="size mismatch"):
            PositionEmbedding(4, (5, 6)).load_state_dict({"grid": torch.rand(1, 5, 5, 6)})
