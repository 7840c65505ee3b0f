"""The authors' MISSFormer, by the names and shapes of its weights, turned into ours."""

import torch
from torch import nn

from medseg_kd.models import MISSFormer
from medseg_kd.models.networks.missformer_blocks import Reduction, to_tokens
from medseg_kd.models.weights.missformer import convert

CHANNELS = (64, 128, 320, 512)
RATIOS = (8, 4, 2, 1)


def _with_bias(name: str, *shape: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def _attention(name: str, c: int) -> dict[str, tuple[int, ...]]:
    return _with_bias(f"{name}.q", c, c) | _with_bias(f"{name}.kv", 2 * c, c) | _with_bias(f"{name}.proj", c, c)


def _ffn(name: str, c: int) -> dict[str, tuple[int, ...]]:
    shapes = _with_bias(f"{name}.fc1", 4 * c, c) | _with_bias(f"{name}.fc2", c, 4 * c)
    shapes |= _with_bias(f"{name}.dwconv.dwconv", 4 * c, 1, 3, 3)
    return shapes | {k: v for n in (1, 2, 3) for k, v in _with_bias(f"{name}.norm{n}", 4 * c).items()}


def _block(name: str, c: int, ratio: int) -> dict[str, tuple[int, ...]]:
    shapes = _attention(f"{name}.attn", c) | _ffn(f"{name}.mlp", c)
    shapes |= _with_bias(f"{name}.norm1", c) | _with_bias(f"{name}.norm2", c)
    if ratio > 1:
        shapes |= _with_bias(f"{name}.attn.sr", c, c, ratio, ratio) | _with_bias(f"{name}.attn.norm", c)
    return shapes


def official_shapes() -> dict[str, tuple[int, ...]]:
    """Names and shapes of the authors' state_dict."""
    shapes: dict[str, tuple[int, ...]] = {}
    for n, (before, c, ratio) in enumerate(zip((3, *CHANNELS), CHANNELS, RATIOS, strict=False), start=1):
        kernel = 7 if n == 1 else 3
        shapes |= _with_bias(f"backbone.patch_embed{n}.proj", c, before, kernel, kernel)
        shapes |= _with_bias(f"backbone.patch_embed{n}.norm", c) | _with_bias(f"backbone.norm{n}", c)
        shapes |= _block(f"backbone.block{n}.0", c, ratio) | _block(f"backbone.block{n}.1", c, ratio)
        layer = f"bridge.bridge_layer{n}"
        shapes |= _with_bias(f"{layer}.norm1", 64) | _with_bias(f"{layer}.norm2", 64) | _attention(f"{layer}.attn", 64)
        shapes |= _with_bias(f"{layer}.attn.scale_reduce.norm", 64)
        for stage, width in enumerate(CHANNELS):
            shapes |= _ffn(f"{layer}.mixffn{stage + 1}", width)
            if stage < 3:
                r = RATIOS[stage]
                shapes |= _with_bias(f"{layer}.attn.scale_reduce.sr{stage}", width, width, r, r)
        step = f"decoder_{n - 1}"
        shapes |= _block(f"{step}.layer_former_1", c, ratio) | _block(f"{step}.layer_former_2", c, ratio)
        shapes |= _with_bias(f"{step}.concat_linear", c, {1: 128, 2: 288, 3: 576, 4: 1024}[n])
        shapes[f"{step}.layer_up.expand.weight"] = (1024, 64) if n == 1 else (2 * c, c)
        shapes |= _with_bias(f"{step}.layer_up.norm", 64 if n == 1 else c // 2)
    return shapes | _with_bias("decoder_0.last_layer", 9, 64, 1, 1)


def test_every_weight_of_ours_comes_from_theirs():
    official = {name: torch.empty(shape, device="meta") for name, shape in official_shapes().items()}
    assert sum(value.numel() for value in official.values()) == 42_462_537
    with torch.device("meta"):
        ours = MISSFormer(num_classes=9).state_dict()
    assert {k: v.shape for k, v in convert(official).items()} == {k: v.shape for k, v in ours.items()}


def test_weights_of_one_shape_are_not_swapped():
    pairs = {
        "backbone.block3.1.attn.q.weight": "encoder.2.blocks.1.attn.attend.q.weight",
        "backbone.block2.0.attn.norm.bias": "encoder.1.blocks.0.attn.reduce.1.bias",
        "backbone.block2.0.norm1.bias": "encoder.1.blocks.0.norm1.bias",
        "backbone.block2.0.mlp.norm1.bias": "encoder.1.blocks.0.mlp.norm.bias",
        "backbone.patch_embed2.norm.weight": "encoder.1.patch_norm.weight",
        "backbone.norm2.weight": "encoder.1.norm.weight",
        "bridge.bridge_layer4.norm1.weight": "bridge.3.norm1.weight",
        "bridge.bridge_layer4.attn.scale_reduce.norm.weight": "bridge.3.norm_reduced.weight",
        "bridge.bridge_layer3.attn.proj.weight": "bridge.2.attend.proj.weight",
        "bridge.bridge_layer3.mixffn2.norm1.weight": "bridge.2.mlps.1.norm.weight",
        "decoder_3.layer_up.norm.bias": "decoder.0.expand.norm.bias",
        "decoder_2.layer_up.norm.bias": "decoder.1.expand.norm.bias",
        "decoder_2.layer_former_2.mlp.fc2.bias": "decoder.0.blocks.1.mlp.fc2.bias",
        "decoder_0.layer_former_1.mlp.fc2.bias": "decoder.2.blocks.0.mlp.fc2.bias",
        "decoder_0.layer_up.norm.weight": "head.expand.norm.weight",
    }
    shapes = official_shapes()
    converted = convert({name: torch.tensor(float(i)).expand(shapes[name]) for i, name in enumerate(pairs)})
    assert {name: float(value.flatten()[0]) for name, value in converted.items()} == {
        name: float(i) for i, name in enumerate(pairs.values())
    }


def test_the_stem_sees_grey_once():
    stem, grey = torch.randn(64, 3, 7, 7), torch.randn(2, 1, 16, 16)
    summed = convert({"backbone.patch_embed1.proj.weight": stem})["encoder.0.patch_embed.weight"]
    wanted = nn.functional.conv2d(grey.expand(-1, 3, -1, -1), stem)
    torch.testing.assert_close(nn.functional.conv2d(grey, summed), wanted, rtol=1e-4, atol=1e-4)


def test_the_reduction_of_the_bridge_gives_the_same_tokens():
    theirs = nn.Conv2d(128, 128, 4, 4)
    prefix = "bridge.bridge_layer1.attn.scale_reduce.sr1."
    converted = convert({prefix + name: value for name, value in theirs.state_dict().items()})
    ours = Reduction(128, 4)
    ours.load_state_dict({name.removeprefix("bridge.0.reduce.1."): value for name, value in converted.items()})
    x = torch.randn(2, 8, 12, 128)
    # Theirs: (N, 128, 2, 3) read as (N, 64, 12), twelve tokens. Ours: the two tokens of a position one after the other.
    wanted = theirs(x.permute(0, 3, 1, 2)).reshape(2, 64, 2, 6).permute(0, 3, 2, 1).flatten(1, 2)
    torch.testing.assert_close(to_tokens([ours(x)], 64), wanted)


def test_a_name_that_is_not_theirs_stays():
    unknown = {"bridge.bridge_layer5.norm1.weight": torch.zeros(64)}
    assert convert(unknown) == unknown
