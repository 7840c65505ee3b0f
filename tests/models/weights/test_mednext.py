"""MedNeXt's weights."""

import pytest
import torch

from medseg_kd.models import MedNeXt
from medseg_kd.models.weights.mednext import convert

RATIOS = (2, 3, 4, 4, 4, 4, 4, 3, 2)
WIDTHS = (4, 8, 16, 32, 64)


def block(prefix: str, width: int, out: int, ratio: int, resampled: str = "") -> dict[str, tuple[int, ...]]:
    """Names and shapes of an authors' block; ``resampled`` is "down", "up" or empty."""
    shapes = {
        "conv1.weight": (width, 1, 3, 3),
        "conv1.bias": (width,),
        "norm.weight": (width,),
        "norm.bias": (width,),
        "conv2.weight": (ratio * width, width, 1, 1),
        "conv2.bias": (ratio * width,),
        "conv3.weight": (out, ratio * width, 1, 1),
        "conv3.bias": (out,),
    }
    if resampled:
        shapes["res_conv.weight"] = (out, width, 1, 1) if resampled == "down" else (width, out, 1, 1)
        shapes["res_conv.bias"] = (out,)
    return {f"{prefix}.{name}": shape for name, shape in shapes.items()}


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    """The authors' names and shapes for 4 channels and one block a stage, with deep supervision."""
    shapes = {"stem.weight": (4, 1, 1, 1), "stem.bias": (4,), "dummy_tensor": (1,)}
    for level, width in enumerate(WIDTHS):
        name = f"enc_block_{level}" if level < 4 else "bottleneck"
        shapes |= block(f"{name}.0", width, width, RATIOS[level])
        shapes |= {f"out_{level}.conv_out.weight": (width, 9, 1, 1), f"out_{level}.conv_out.bias": (9,)}
    for level, (width, deeper) in enumerate(zip(WIDTHS, WIDTHS[1:], strict=False)):
        shapes |= block(f"down_{level}", width, deeper, RATIOS[level + 1], "down")
        shapes |= block(f"up_{level}", deeper, width, RATIOS[8 - level], "up")
        shapes |= block(f"dec_block_{level}.0", width, width, RATIOS[8 - level])
    torch.manual_seed(0)
    return {name: torch.rand(shape) for name, shape in shapes.items()}


def test_every_weight_finds_its_place(state):
    net = MedNeXt(9, channels=4, block_counts=(1,) * 9)
    net.load_state_dict(convert(state))
    for theirs, ours in (
        ("bottleneck.0.conv2.bias", net.encoder[4][0].conv2.bias),
        ("enc_block_1.0.conv1.weight", net.encoder[1][0].conv1.weight),
        ("down_3.res_conv.weight", net.down[3].res_conv.weight),
        ("up_0.conv3.weight", net.up[0].conv3.weight),
        ("dec_block_0.0.norm.bias", net.decoder[0][0].norm.bias),
        ("out_0.conv_out.weight", net.head.conv_out.weight),
    ):
        assert torch.equal(ours, state[theirs])


def test_only_what_training_needs_is_dropped(state):
    assert len(state) - len(convert(state)) == 1 + 4 * 2
    assert list(convert({"out_5.conv_out.bias": torch.ones(1)})) == ["out_5.conv_out.bias"]


def test_it_is_done_once(state):
    assert convert(convert(state)).keys() == convert(state).keys()
