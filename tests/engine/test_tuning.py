"""What is changed for a GPU's sake, seen without one."""

import copy
from typing import Any

import pytest
import torch
from mmengine.hooks import Hook
from torch import nn

from medseg_kd.configuration import read_config
from medseg_kd.engine import Runner, TeacherCheckHook
from medseg_kd.engine.graphs import graphed_step, strangers
from medseg_kd.engine.tuning import align_gradients, use_channels_last, with_fused_optimizer
from medseg_kd.errors import UserError
from medseg_kd.registry import HOOKS, MODELS
from tests.device.test_fake_gpu import STEPPED
from tests.engine.tiny import TinyNet, tiny_config

CUDA = torch.device("cuda")


@pytest.mark.parametrize("kind", ["SGD", torch.optim.AdamW, "AdamW"])
def test_optimizers_that_know_it_are_fused_on_a_gpu(kind: Any) -> None:
    given = dict(type="OptimWrapper", optimizer=dict(type=kind, lr=0.1))
    assert with_fused_optimizer(given, CUDA)["optimizer"] == dict(type=kind, lr=0.1, fused=True)
    assert with_fused_optimizer(given, torch.device("cpu")) is given


@pytest.mark.parametrize(
    "optimizer", [dict(type="SGD", foreach=False), dict(type="SGD", fused=False), dict(type="ASGD")]
)
def test_what_a_config_says_of_its_optimizer_stays(optimizer: dict[str, Any]) -> None:
    given = dict(optimizer=optimizer)
    assert with_fused_optimizer(given, CUDA) is given


def test_gradients_get_the_strides_of_their_parameters() -> None:
    pointwise, kernel = nn.Parameter(torch.zeros(4, 3, 1, 1)), nn.Parameter(torch.zeros(4, 3, 2, 2))
    optimizer = torch.optim.SGD([pointwise, kernel], lr=1.0)
    pointwise.grad = torch.rand(4, 1, 1, 3).permute(0, 3, 1, 2)
    kernel.grad = torch.rand(4, 2, 2, 3).permute(0, 3, 1, 2)
    values, place = [each.grad.clone() for each in (pointwise, kernel)], pointwise.grad.data_ptr()
    align_gradients(optimizer)
    for parameter, value in zip((pointwise, kernel), values, strict=True):
        assert parameter.grad.stride() == parameter.stride()
        assert torch.equal(parameter.grad, value)
    assert pointwise.grad.data_ptr() == place  # no copy


@pytest.mark.parametrize(
    ("asked", "device", "norm", "done"),
    [
        ("auto", CUDA, nn.BatchNorm2d, True),
        ("auto", CUDA, nn.InstanceNorm2d, False),
        ("auto", torch.device("cpu"), nn.BatchNorm2d, False),
        (True, torch.device("cpu"), nn.InstanceNorm2d, True),
        (False, CUDA, nn.BatchNorm2d, False),
    ],
)
def test_channels_last_where_norms_take_it(asked: Any, device: torch.device, norm: Any, done: bool) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), norm(4))
    assert use_channels_last(model, asked, device) is done
    assert model[0].weight.is_contiguous(memory_format=torch.channels_last) is done


@pytest.mark.parametrize("channels", [3, 8, 15, 16])
def test_strided_pointwise_convolutions_of_few_channels_train_channels_last_on_a_cpu(channels: int) -> None:
    """Their backward pass ends the process on some CPUs, where input and kernel lie channels last."""
    model = nn.Sequential(nn.Conv2d(1, channels, 3, padding=1), nn.Conv2d(channels, 16, 1, 2), nn.Conv2d(16, 4, 3))
    other = copy.deepcopy(model)
    assert use_channels_last(model, True, torch.device("cpu"))
    seen: list[torch.Tensor] = []
    hooked = model[1].register_forward_hook(lambda module, inputs, _: seen.extend((module.weight, *inputs)))
    x = torch.rand(2, 1, 48, 48)
    outputs = [each(x) for each in (model, other)]
    hooked.remove()
    kernel, given = seen
    last = channels == 16
    assert (given.stride(1), kernel.stride(1)) == ((1, 1) if last else (48 * 48, 1))
    assert given.is_contiguous() is not last and (last or kernel.stride() == (channels, 1, 1, 1))
    assert model[0](x).is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(*outputs)
    for output in outputs:
        output.square().sum().backward()
    for own, plain in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(own.grad, plain.grad, rtol=1e-4, atol=1e-3)


def test_a_graph_needs_a_gpu() -> None:
    model, wrapper = TinyNet(2), None
    assert graphed_step(model, wrapper, "auto", 2) is None
    assert graphed_step(model, wrapper, False, 2) is None
    with pytest.raises(UserError, match="cuda_graph is True, but training runs on no CUDA device"):
        graphed_step(model, wrapper, True, 2)
    with pytest.raises(UserError, match="cuda_graph is 'on': expected True, False or 'auto'"):
        graphed_step(model, wrapper, "on", 2)
    with pytest.raises(UserError, match="channels_last is 1.5"):
        use_channels_last(model, 1.5, CUDA)


def test_parts_that_may_change_from_step_to_step_are_found(phantom, tmp_path) -> None:
    """The network of the tests is such a one; all networks and methods of the project are none."""
    runner = Runner.from_cfg(tiny_config(phantom, tmp_path))
    assert strangers(runner.model, runner.hooks) == ["tests.engine.tiny.TinyNet"]

    class Mine(Hook):
        pass

    def my_loss(logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        return logits.mean()

    model = nn.Conv2d(1, 2, 1)
    model.loss = my_loss
    assert [name.rpartition(".")[2] for name in strangers(model, [Mine(), TeacherCheckHook()])] == ["Mine", "my_loss"]


@pytest.mark.parametrize("config", STEPPED)
def test_steps_of_the_project_are_known(config: str) -> None:
    cfg = read_config(config)
    cfg.model.pop("teacher_ckpt", None)
    with torch.device("meta"):
        model = MODELS.build(cfg.model)
    hooks = [HOOKS.build(hook) for hook in cfg.default_hooks.values()]
    assert strangers(model, hooks) == []
