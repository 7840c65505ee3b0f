"""MISSFormer, in three stages where its size does not matter."""

import pytest
import torch
import torch.nn.functional as F

from medseg_kd.errors import UserError
from medseg_kd.models import MISSFormer
from medseg_kd.models.networks.missformer import Head
from medseg_kd.models.networks.missformer_blocks import Attention, EnhancedMixFFN, to_maps, to_tokens
from medseg_kd.registry import MODELS
from tests.models.network_contract import NetworkContract


class TestMISSFormer(NetworkContract):
    network = dict(
        type=MISSFormer,
        num_classes=9,
        channels=(16, 32, 80),
        heads=(1, 2, 5),
        depths=(1, 1, 1),
        bridge_layers=1,
    )

    def test_decoder_starts_from_xavier_and_encoder_does_not(self):
        fresh = MODELS.build(self.network)
        assert not fresh.decoder[0].fuse.bias.any()
        assert fresh.decoder[0].fuse.weight.abs().max() > 0.95 * (6 / (40 + 32 + 32)) ** 0.5
        assert fresh.encoder[0].patch_embed.bias.any()
        assert fresh.bridge[0].attend.q.bias.any()


def test_the_published_size():
    with torch.device("meta"):
        net = MISSFormer(num_classes=9)
    assert sum(p.numel() for p in net.parameters()) == 35_446_473
    assert [(stage["channels"], stage["reduction"]) for stage in net.feature_info] == [
        (64, 4),
        (128, 8),
        (320, 16),
        (512, 32),
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(channels=(64, 128, 300, 512)), "300 channels and 5 heads"),
        (dict(heads=(1, 2, 3, 8)), "320 channels and 3 heads"),
        (dict(heads=(1, 2)), "4 channels, 2 heads and 4 depths"),
    ],
)
def test_what_cannot_be_built_is_refused(options, message):
    with pytest.raises(UserError, match=message):
        MISSFormer(num_classes=9, **options)


def test_attention_is_the_softmax_formula():
    attend = Attention(12, heads=3)
    x, context = torch.randn(2, 5, 12), torch.randn(2, 7, 12)
    q, (k, v) = attend.q(x), attend.kv(context).chunk(2, dim=-1)
    heads = [
        (q[..., part] @ k[..., part].mT / 4**0.5).softmax(-1) @ v[..., part]
        for part in (slice(0, 4), slice(4, 8), slice(8, 12))
    ]
    torch.testing.assert_close(attend(x, context), attend.proj(torch.cat(heads, dim=-1)))


def test_mix_ffn_adds_its_convolution_to_its_input():
    ffn = EnhancedMixFFN(4)
    x = torch.randn(2, 5, 3, 4)
    hidden = ffn.fc1(x)
    conv = F.conv2d(hidden.permute(0, 3, 1, 2), ffn.dwconv.weight, ffn.dwconv.bias, padding=1, groups=16)
    wanted = ffn.fc2(F.gelu(ffn.norm(hidden + conv.permute(0, 2, 3, 1))))
    torch.testing.assert_close(ffn(x), wanted)


def test_tokens_of_a_position_follow_one_another():
    maps = [torch.randn(2, 4, 6, 8), torch.randn(2, 2, 3, 24)]
    tokens = to_tokens(maps, 8)
    assert tokens.shape == (2, 24 + 6 * 3, 8)
    assert torch.equal(tokens[1, 24 + 3 * (1 * 3 + 2) + 1], maps[1][1, 1, 2, 8:16])
    assert all(torch.equal(a, b) for a, b in zip(to_maps(tokens, [m.shape for m in maps]), maps, strict=True))


def test_head_puts_new_positions_in_their_place():
    head = Head(8, 3)
    x = torch.randn(1, 2, 3, 8)
    row, column = 2, 1
    rows = head.expand.linear.weight[(row * 4 + column) * 8 :][:8]
    wanted = head.classify(head.expand.norm(x[0, 1, 2] @ rows.T))
    logits = head(x)
    assert logits.shape == (1, 3, 8, 12)
    torch.testing.assert_close(logits[0, :, 4 * 1 + row, 4 * 2 + column], wanted)
