"""Activations that are computed again, not kept: the same losses, gradients, statistics and names."""

import pytest
import torch
from torch import nn

from medseg_kd.engine import Runner
from medseg_kd.engine.activations import checkpoint_activations
from medseg_kd.errors import UserError
from tests.engine.tiny import tiny_config


def network() -> nn.Sequential:
    torch.manual_seed(0)
    block = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Dropout(0.3))
    return nn.Sequential(block, nn.Conv2d(4, 2, 1)).double()


def stepped(net: nn.Module) -> tuple[torch.Tensor, int]:
    """Two steps: the last output, and the bytes kept for the last backward pass."""
    kept: list[torch.Tensor] = []
    for step in range(2):
        torch.manual_seed(step)
        kept.clear()
        with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x):
            output = net(torch.rand(2, 1, 16, 16, dtype=torch.double))
        size = sum(each.nbytes for each in kept)
        output.square().sum().backward()
    return output.detach(), size


def test_all_is_as_without_and_less_is_kept() -> None:
    plain, checkpointed = network(), network()
    checkpoint_activations(checkpointed, "0")
    (expected, more), (output, less) = stepped(plain), stepped(checkpointed)
    assert torch.equal(output, expected)
    assert less < more / 2
    for (name, a), (other, b) in zip(plain.named_parameters(), checkpointed.named_parameters(), strict=True):
        assert name == other and torch.equal(a.grad, b.grad)
    for name, value in plain.state_dict().items():  # running statistics and counts of batches
        assert torch.equal(checkpointed.state_dict()[name], value)


def test_a_module_that_is_not_there_is_named() -> None:
    with pytest.raises(UserError, match="activation_checkpointing names 'backbone', which the model has not"):
        checkpoint_activations(network(), ["0", "backbone"])


def test_a_run_trains_what_it_checkpoints(phantom, tmp_path) -> None:
    losses = []
    for name, more in (("plain", {}), ("less", {"activation_checkpointing": ["network"]})):
        cfg = tiny_config(phantom, tmp_path / name)
        cfg.merge_from_dict({**more, "experiment_name": name})
        runner = Runner.from_cfg(cfg)
        runner.train()
        losses.append(runner.message_hub.get_scalar("train/loss").data[0].tolist())
    assert losses[0] == losses[1]
