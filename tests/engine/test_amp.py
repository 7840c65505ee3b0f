"""Mixed precision in what the device has natively."""

import copy
import warnings

import pytest
import torch
from mmengine.optim import OptimWrapper
from torch import nn

from medseg_kd.engine import BFloat16OptimWrapper, NativeAmpOptimWrapper, amp
from medseg_kd.registry import OPTIM_WRAPPERS


@pytest.fixture
def native(monkeypatch):
    """Makes wrappers of a one-layer network, on a device whose native format is told."""

    def make(dtype: torch.dtype, **options) -> tuple[nn.Module, NativeAmpOptimWrapper]:
        monkeypatch.setattr(amp, "native_dtype", lambda device: dtype)
        monkeypatch.setattr(amp, "native_dtype_reason", lambda device: f"{dtype} on {device}: told so")
        torch.manual_seed(0)
        model = nn.Linear(3, 2)
        config = dict(type="NativeAmpOptimWrapper", optimizer=torch.optim.SGD(model.parameters(), 0.1, 0.9), **options)
        return model, OPTIM_WRAPPERS.build(config)

    return make


def train(model: nn.Module, wrapper: OptimWrapper, factor: float = 1.0) -> torch.dtype:
    """One step; returns the type that the network computed in."""
    with wrapper.optim_context(model):
        output = model(torch.ones(4, 3))
    wrapper.update_params(factor * output.float().square().mean())
    return output.dtype


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_forward_pass_runs_in_the_native_type(native, dtype):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model, wrapper = native(dtype)
        assert train(model, wrapper) == dtype
    assert all(weight.dtype == torch.float32 for weight in model.parameters())
    assert ("loss_scaler" in wrapper.state_dict()) is (dtype == torch.float16)


def test_what_was_taken_is_logged_once(native, monkeypatch):
    lines = []
    monkeypatch.setattr(amp, "print_log", lambda line, logger: lines.append(line))
    model, wrapper = native(torch.bfloat16)
    train(model, wrapper), train(model, wrapper)
    assert lines == ["training in torch.bfloat16 on cpu: told so"]


@pytest.mark.parametrize("options", [{}, {"clip_grad": {"max_norm": 1e-8}}, {"accumulative_counts": 2}])
def test_scaled_gradients_give_the_same_step(native, options):
    """In float16 the gradients of this loss are zero; scaled, they are not."""
    steps = []
    for dtype in (torch.float32, torch.float16):
        model, wrapper = native(dtype, **copy.deepcopy(options))
        wrapper.param_groups[0]["lr"] = 1e6
        before = model.weight.detach().clone()
        for _ in range(2):
            train(model, wrapper, factor=1e-7)
        steps.append(model.weight.detach() - before)
    assert steps[0].abs().min() > 1e-5
    torch.testing.assert_close(steps[1], steps[0], rtol=1e-2, atol=0)


def test_an_overflow_leaves_the_step_out_and_lowers_the_scale(native):
    model, wrapper = native(torch.float16)
    before = model.weight.detach().clone()
    scale = wrapper.scaler.get_scale()
    train(model, wrapper, factor=1e35)
    assert torch.equal(model.weight, before)
    assert wrapper.scaler.get_scale() == scale / 2


def test_the_scale_is_saved_and_states_of_other_precisions_load(native):
    model, wrapper = native(torch.float16)
    train(model, wrapper, factor=1e35)
    scaled = wrapper.state_dict()
    assert scaled["loss_scaler"]["scale"] == 2**15
    _, again = native(torch.float16)
    again.load_state_dict(scaled)
    assert again.scaler.get_scale() == 2**15 and "loss_scaler" in scaled
    model, plain = native(torch.float32)
    train(model, plain)
    _, again = native(torch.float16)
    again.load_state_dict(plain.state_dict())
    assert again.state_dict()["state"][0]["momentum_buffer"].abs().max() > 0
    _, lower = native(torch.bfloat16)
    lower.load_state_dict(scaled)
    _, forced = native(torch.bfloat16)
    BFloat16OptimWrapper(forced.optimizer).load_state_dict(scaled)


def test_bf16_can_be_forced():
    model = nn.Linear(3, 2)
    wrapper = BFloat16OptimWrapper(torch.optim.SGD(model.parameters(), 0.1))
    assert train(model, wrapper) == torch.bfloat16
