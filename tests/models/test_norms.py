"""Norms that launch fewer kernels give and hold what PyTorch's do."""

import copy

import pytest
import torch
from torch import nn

from medseg_kd.models import InstanceNorm2d, norms
from medseg_kd.models.norms import GroupNorm


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_instance_norm_is_pytorchs_bit_for_bit(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 8, 9, dtype=dtype)
    results = []
    for kind in (nn.InstanceNorm2d, InstanceNorm2d):
        given = x.clone().requires_grad_()
        output = torch.relu_(kind(3)(given))
        output.square().sum().backward()
        results.append((output.detach(), given.grad))
    assert all(map(torch.equal, *results))


def test_its_output_is_no_view_and_other_options_stay() -> None:
    x = torch.randn(2, 3, 8, 9, requires_grad=True)
    assert not InstanceNorm2d(3)(x)._is_view()
    with torch.no_grad():
        assert torch.equal(InstanceNorm2d(3)(x), nn.InstanceNorm2d(3)(x))
    affine = InstanceNorm2d(3, affine=True, track_running_stats=True)
    assert affine(x)._is_view() and affine.running_mean.abs().min() > 0  # PyTorch's own


def test_batches_are_counted_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """As without, but for those that read their count or do not train."""
    model = nn.Sequential(nn.BatchNorm2d(2), nn.BatchNorm2d(2, momentum=None), nn.BatchNorm2d(2).eval())
    plain, x = copy.deepcopy(model), torch.rand(2, 2, 4, 4)
    device = torch.device("cpu")
    with norms.batches_counted_together(model):  # nothing is launched on the CPU
        assert model[0].num_batches_tracked is not None and model[0].num_batches_tracked.device == device
    monkeypatch.setattr(norms, "_may_wait", lambda norm: norm.training and norm.momentum is not None)
    for _ in range(2):
        with norms.batches_counted_together(model):
            assert model[0].num_batches_tracked is None and model[1].num_batches_tracked is not None
            with norms.batches_counted_together(model[1:]):
                model(x)
        plain(x)
    assert model.state_dict().keys() == plain.state_dict().keys()
    assert all(torch.equal(value, plain.state_dict()[name]) for name, value in model.state_dict().items())
    with pytest.raises(RuntimeError), norms.batches_counted_together(model):
        model(torch.rand(2, 3, 4, 4))
    assert model[0].num_batches_tracked == 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_group_norm_that_was_cast_gives_16_bits_under_autocast(dtype: torch.dtype) -> None:
    """As near to the exact norm as autocast's own; that of float32 weights is PyTorch's."""
    torch.manual_seed(0)
    norm, x = GroupNorm(4, 16), torch.randn(2, 16, 9, 7) * 3 + 5
    torch.nn.init.normal_(norm.weight)
    exact = torch.nn.functional.group_norm(x, 4, norm.weight, norm.bias)
    norm.to(dtype)
    with torch.autocast("cpu", torch.bfloat16):
        found = norm(x.to(dtype))
    assert found.dtype == dtype
    assert (found.float() - exact).norm() < (1e-6 if dtype == torch.float32 else 1e-2) * exact.norm()
