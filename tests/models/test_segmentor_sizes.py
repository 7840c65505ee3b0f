"""Padding, cropping and resizing around a network."""

import pytest
import torch
import torch.nn.functional as F

from medseg_kd.models import UNet
from tests.models.segmentors import BACKBONE, CLASSES, MONAI, Pointwise, batch, build


def test_the_input_is_padded_and_the_logits_are_cropped():
    model = build(size_divisor=16).eval()
    x = torch.rand(2, 1, 50, 61)
    with torch.no_grad():
        logits = model(x, mode="tensor")
        assert torch.equal(logits, model.network(x))
    assert model.network.sizes[0] == (2, 1, 64, 64)
    assert logits.shape == (2, CLASSES, 50, 61)


def test_padding_lies_right_and_below():
    x, labels = batch((5, 7))
    padded, out = build(size_divisor=4, ignore_index=99, data_preprocessor=dict(ignore_index=99)).pad(x, labels)
    assert padded.shape == (2, 1, 8, 8)
    assert torch.equal(padded[..., :5, :7], x)
    assert padded[..., 5:, :].abs().max() == padded[..., 7:].abs().max() == 0
    assert out.shape == (2, 8, 8) and out.dtype == torch.uint8 and torch.equal(out[:, :5, :7], labels)
    assert (out[:, 5:] == 99).all() and (out[..., 7:] == 99).all()


def test_a_size_that_fits_is_left_alone():
    x, labels = batch((8, 12))
    model = build(size_divisor=4)
    assert model.pad(x, labels)[0] is x
    assert model.pad(x, labels, divisor=8)[0].shape[-2:] == (8, 16)


def test_the_network_may_say_what_it_needs():
    network = Pointwise(CLASSES, 1)
    network.size_divisor = 32
    assert build(network).size_divisor == 32
    assert build(network, size_divisor=8).size_divisor == 8


@pytest.mark.parametrize(
    "network",
    [MONAI, dict(type=UNet, backbone=BACKBONE), dict(type=Pointwise, reduction=2)],
    ids=["monai", "ours", "own"],
)
def test_tensor_mode_gives_full_resolution(network):
    model = build(network, size_divisor=16).eval()
    with torch.no_grad():
        assert model(torch.rand(1, 1, 50, 61), mode="tensor").shape == (1, CLASSES, 50, 61)
        assert model(torch.rand(1, 1, 50, 61)).shape == (1, CLASSES, 50, 61)


def test_smaller_logits_are_resized_over_the_padded_grid():
    """A ramp stays the same ramp: cropping before resizing would stretch it."""
    network = Pointwise(1, 1, reduction=1)
    network.forward = lambda x: F.avg_pool2d(x, 2)
    model = build(network, num_classes=1, size_divisor=8, losses=None).eval()
    ramp = torch.arange(11.0).expand(1, 1, 10, 11)
    out = model(ramp, mode="tensor")[0, 0]
    torch.testing.assert_close(out[1:9, 1:9], ramp[0, 0, 1:9, 1:9])


def test_auxiliary_outputs_in_tensor_mode():
    model = build(dict(type=Pointwise, outputs=2, reduction=2), output_weights=(1, 0.5), size_divisor=4)
    outputs = model.train()(torch.rand(1, 1, 9, 11), mode="tensor")
    assert [tuple(out.shape) for out in outputs] == [(1, CLASSES, 9, 11)] * 2
