"""Losses on the labels that a batch holds, and without what makes a GPU wait or refuse."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from medseg_kd.distill import (
    ATLoss,
    AttnFDLoss,
    BPKDLoss,
    CIRKDLoss,
    CWDLoss,
    DISTLoss,
    DKDLoss,
    HCLLoss,
    IFVDLoss,
    KDLoss,
    LSKDLoss,
    MGDLoss,
)
from medseg_kd.distill.losses.pixels import pool, valid_pixels
from tests.device_faults import DeviceFaults

LOSSES = {
    "kd": KDLoss(),
    "dkd": DKDLoss(),
    "dist": DISTLoss(min_teacher_prob=1e-6),
    "cwd": CWDLoss(),
    "at": ATLoss(),
    "hcl": HCLLoss(),
    "lskd": LSKDLoss(),
    "bpkd": BPKDLoss(width=1),
    "cirkd": CIRKDLoss(),
    "ifvd": IFVDLoss(),
    "mgd": MGDLoss(),
    "attnfd": AttnFDLoss(),
}
NEEDS_LABELS = ("dkd", "bpkd", "ifvd")


def case(name: str) -> tuple[Tensor, Tensor, Tensor]:
    """Maps of the student (2, 4, 12, 10) and of the teacher, of another size where the loss allows, and labels."""
    rng = torch.Generator().manual_seed(0)
    size = (12, 10) if name in ("hcl", "mgd") else (8, 7)
    student = torch.randn(2, 4, 12, 10, generator=rng, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(2, 4, *size, generator=rng, dtype=torch.float64)
    label = torch.randint(5, (2, 12, 10), generator=rng)
    return student, teacher, label.where(label != 4, 255)


@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize("name", LOSSES)
def test_uint8_labels_are_as_good_as_int64(name, scale):
    student, teacher, label = case(name)
    label = label.repeat_interleave(scale, 1).repeat_interleave(scale, 2)
    results = []
    for dtype in (torch.int64, torch.uint8):
        value = LOSSES[name](student, teacher, label.to(dtype))
        results.append((value, *torch.autograd.grad(value, student)))
    torch.testing.assert_close(*results, rtol=0, atol=0)
    assert name in NEEDS_LABELS or results[0][0] != LOSSES[name](student, teacher)


@pytest.mark.parametrize("name", LOSSES)
def test_a_gpu_neither_waits_nor_refuses(name):
    student, teacher, label = case(name)
    labels = [label.to(torch.uint8), label[:, ::2, ::2]] + ([None] if name not in NEEDS_LABELS else [])
    with DeviceFaults() as faults:
        for each in labels:
            LOSSES[name](student, teacher, each).backward()
    assert faults.found == []


def test_an_ignored_label_that_uint8_cannot_hold_is_in_no_pixel():
    """In uint8, PyTorch takes -1 for 255."""
    label = torch.full((1, 2, 2), 255, dtype=torch.uint8)
    assert valid_pixels(label, torch.zeros(1, 3, 2, 2), -1).all()
    assert not valid_pixels(label, torch.zeros(1, 3, 4, 4), 255).any()


@pytest.mark.parametrize("size", [(8, 6), (4, 3), (1, 1), (5, 5), (7, 2), (3, 12), (16, 12)])
def test_pooling_is_adaptive_pooling(size):
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 8, 6, generator=rng, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(2, 3, *size, generator=rng, dtype=torch.float64)
    ours, theirs = pool(x, size), adaptive_avg_pool2d(x, size)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    gradients = [torch.autograd.grad((weights * each).sum(), x)[0] for each in (ours, theirs)]
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-12)
