"""What a network costs, against numbers worked out by hand."""

import time

import torch
import torch.nn.functional as F
from torch import nn

from medseg_kd.models.profiling import (
    flops,
    inference_step,
    interleaved_seconds,
    parameter_count,
    peak_memory,
    ratio,
    training_step,
)

CPU = torch.device("cpu")


class Attention(nn.Module):
    """A convolution and an attention over the pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)

    def forward(self, x):
        tokens = self.conv(x).flatten(2).transpose(1, 2)[:, None]
        return F.scaled_dot_product_attention(tokens, tokens, tokens)


def test_parameters_count_and_statistics_do_not():
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))
    assert parameter_count(network) == 4 * 9 + 4 + 8 + 4 * 2 + 2


def test_operations_count_convolution_and_attention():
    with torch.device("meta"):
        counted = flops(Attention(), torch.empty(2, 1, 6, 5))
    convolution, attention = 30 * 4 * 9, 2 * 30 * 30 * 4
    assert counted == 2 * 2 * (convolution + attention)


def test_memory_of_a_step_is_its_tensors():
    network = nn.Sequential(nn.ReLU(), nn.ReLU())
    x = torch.rand(1, 1, 256, 256)
    assert peak_memory(inference_step(network, x), CPU) == 2 * 256 * 256 * 4
    weights = nn.Conv2d(1, 1, 1)
    training = peak_memory(training_step(weights, x), CPU)
    assert 2 * 256 * 256 * 4 <= training <= 6 * 256 * 256 * 4
    assert all(parameter.grad is None for parameter in weights.parameters())


def test_steps_are_timed_in_turn():
    calls = []

    def step(name, seconds):
        calls.append(name)
        time.sleep(seconds)

    taken = interleaved_seconds({"a": lambda: step("a", 0.02), "b": lambda: step("b", 0.01)}, 3, CPU)
    assert calls == ["a", "b"] * 5
    assert [len(values) for values in taken.values()] == [3, 3]
    assert all(seconds >= 0.02 for seconds in taken["a"])
    assert ratio([1.0, 4.0, 9.0], [1.0, 2.0, 3.0]) == (2.0, 1.0, 3.0)
