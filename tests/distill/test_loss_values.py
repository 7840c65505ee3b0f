"""Losses and fusion against the values that the authors' public code gives (reference_values.json names it)."""

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from reference_inputs import MID, STUDENT_CHANNELS, TEACHER_CHANNELS, make_inputs
from torch import Tensor

from medseg_kd.distill import (
    ABF,
    ATLoss,
    AttnFDLoss,
    BPKDLoss,
    CBAMConnector,
    CIRKDLoss,
    CWDLoss,
    DISTLoss,
    DKDLoss,
    HCLLoss,
    IFVDLoss,
    KDLoss,
    LSKDLoss,
    MaskedGeneration,
    MGDLoss,
)
from medseg_kd.distill.connectors import refined

VALUES = json.loads(Path(__file__).with_name("reference_values.json").read_text())
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-5}
LOGITS = ("logits_s", "logits_t")
CASES = {
    "kd_T4": (KDLoss(tau=4), LOGITS),
    "dkd_a1_b8_T4": (DKDLoss(tau=4, alpha=1, beta=8), (*LOGITS, "label")),
    "dist_b1_g1": (DISTLoss(), LOGITS),
    "cwd_channel_kl_T4": (CWDLoss(tau=4, loss_weight=1), LOGITS),
    "at_p2_same_size": (ATLoss(loss_weight=1), ("feat_s", "feat_t")),
    "hcl_level0": (HCLLoss(), ("shifted", "pyr_t0")),
    "lskd_T2": (LSKDLoss(tau=2, loss_weight=1), LOGITS),
    "lskd_dkd_a1_b8_T2": (DKDLoss(tau=2, alpha=1, beta=8, standardize=True), (*LOGITS, "label")),
    "cirkd_T0.1": (CIRKDLoss(), ("feat_s", "feat_t")),
    "ifvd": (IFVDLoss(loss_weight=1), ("feat_s", "feat_t", "label")),
}


@cache
def inputs() -> dict[str, np.ndarray]:
    arrays = make_inputs()
    arrays["shifted"] = 0.5 * arrays["pyr_t0"] + 0.25
    return arrays


def tensor(name: str, dtype: torch.dtype) -> Tensor:
    array = torch.from_numpy(inputs()[name])
    return array if name.startswith("label") else array.to(dtype)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", CASES)
def test_loss_and_gradient_equal_the_authors(name, dtype):
    loss, arguments = CASES[name]
    student, *others = (tensor(argument, dtype) for argument in arguments)
    student.requires_grad_()
    value = loss(student, *others)
    value.backward()
    expected = VALUES[name]
    assert value.dtype == dtype
    assert value.item() == pytest.approx(expected["value"], rel=TOLERANCE[dtype])
    assert student.grad.norm().item() == pytest.approx(expected["grad_l2"], rel=TOLERANCE[dtype])
    assert student.grad.flatten()[:3].tolist() == pytest.approx(expected["grad_first"], rel=TOLERANCE[dtype])


def fusion(level: int) -> ABF:
    """The fusion of a level with the reference weights, in training mode and float64."""
    deepest = level == len(STUDENT_CHANNELS) - 1
    module = ABF(STUDENT_CHANNELS[level], MID, TEACHER_CHANNELS[level], fuse=not deepest).double()
    prefix = f"abf{level}."
    weights = {k.removeprefix(prefix): torch.from_numpy(v) for k, v in inputs().items() if k.startswith(prefix)}
    missing, left_over = module.load_state_dict(weights, strict=False)
    assert not left_over and all(key.endswith("num_batches_tracked") for key in missing)
    return module


def test_review_equals_the_authors():
    expected = VALUES["reviewkd_same_size_bn_train"]
    students = [tensor(f"pyr_s{level}", torch.float64).requires_grad_() for level in range(4)]
    residual, total, sums = None, torch.zeros(()), {}
    for level in (3, 2, 1, 0):
        target = tensor(f"pyr_t{level}", torch.float64)
        output, residual = fusion(level)(students[level], residual, target.shape[-2:])
        assert output.shape == target.shape
        sums[level] = output.sum().item()
        total = total + HCLLoss()(output, target)
    total.backward()
    assert total.item() == pytest.approx(expected["value"], rel=1e-9)
    assert [sums[level] for level in range(4)] == pytest.approx(expected["abf_out_sum"], rel=1e-9)
    assert [student.grad.norm().item() for student in students] == pytest.approx(expected["grad_l2"], rel=1e-9)


def weights(prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor(name, torch.float64) for name in inputs() if name.startswith(prefix)}


def test_masked_generation_equals_the_authors(monkeypatch):
    """Their sum over all entries, times 2e-5, divided by N, of their mask."""
    expected, student = VALUES["mgd"], tensor("pyr_s0", torch.float64).requires_grad_()
    target, (mask,) = tensor("pyr_t0", torch.float64), weights("mgd.mask").values()
    monkeypatch.setattr(torch, "rand_like", lambda valid, dtype: mask[:, 0])
    connector = MaskedGeneration(STUDENT_CHANNELS[0], TEACHER_CHANNELS[0], TEACHER_CHANNELS[0], 0.75).double()
    connector.load_state_dict({k: v for k, v in weights("mgd.").items() if k != "mask"})
    generated = connector(student, torch.ones_like(mask[:, 0], dtype=torch.bool))
    value = MGDLoss(loss_weight=2e-5 * target[0].numel())(generated, target)
    value.backward()
    assert value.item() == pytest.approx(expected["value"], rel=1e-9)
    assert student.grad.norm().item() == pytest.approx(expected["grad_l2"], rel=1e-9)
    assert student.grad.flatten()[:3].tolist() == pytest.approx(expected["grad_first"], rel=1e-9)
    assert [p.grad.norm().item() for p in connector.parameters()] == pytest.approx(expected["weights_l2"], rel=1e-9)


def test_attention_equals_the_authors():
    expected, student = VALUES["attnfd"], tensor("pyr_s1", torch.float64).requires_grad_()
    connector = CBAMConnector(STUDENT_CHANNELS[1], TEACHER_CHANNELS[1], reduction=4).double()
    missing, left_over = connector.load_state_dict(weights("cbam."), strict=False)
    assert not left_over and all("running" in key or key.endswith("tracked") for key in missing)
    valid = torch.ones(2, 1, *student.shape[2:], dtype=torch.bool)
    feature, target = connector(student, valid), refined(tensor("pyr_t1", torch.float64), valid)
    value = AttnFDLoss(loss_weight=1)(feature, target)
    value.backward()
    assert feature.sum().item() == pytest.approx(expected["student_sum"], rel=1e-9)
    assert target.sum().item() == pytest.approx(expected["teacher_sum"], rel=1e-9)
    assert value.item() == pytest.approx(expected["value"], rel=1e-9)
    assert student.grad.norm().item() == pytest.approx(expected["grad_l2"], rel=1e-9)
    assert student.grad.flatten()[:3].tolist() == pytest.approx(expected["grad_first"], rel=1e-9)
    found = {name: p.grad.norm().item() for name, p in connector.named_parameters()}
    assert found == pytest.approx(expected["weights_l2"], rel=1e-9)


def test_boundaries_are_kd_and_bodies_cwd_of_their_pixels():
    """Of the authors' code there is no loss; its halves are those of KD and CWD, which are checked above."""
    student, teacher, label = (tensor(name, torch.float64) for name in (*LOGITS, "label_ignore"))
    label[:, :, :7], label[:, :, 11:] = 0, 1
    label[0, :3] = 255
    edge = torch.zeros_like(label, dtype=torch.bool)
    for n, row, column in np.ndindex(*label.shape):
        window = label[n, max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
        edge[n, row, column] = label[n, row, column] != 255 and len(set(window.flatten().tolist()) - {255}) > 1
    assert edge.any() and (~edge & (label != 255)).any()
    assert torch.equal(BPKDLoss(width=1).edges(label), edge)
    parts = [label.masked_fill(outside, 255) for outside in (~edge, edge)]
    expected = 2 * KDLoss(tau=3)(student, teacher, parts[0]) + 5 * CWDLoss(tau=2, loss_weight=1)(
        student, teacher, parts[1]
    )
    loss = BPKDLoss(width=1, edge_weight=2, body_weight=5, edge_tau=3, body_tau=2)
    assert loss(student, teacher, label).item() == pytest.approx(expected.item(), rel=1e-12)


def test_fusion_takes_sizes_from_the_tensors():
    residual = None
    for level in (3, 2, 1, 0):
        target = tensor(f"pyr_tsmall{level}", torch.float64)
        output, residual = fusion(level)(tensor(f"pyr_s{level}", torch.float64), residual, target.shape[-2:])
        assert output.shape == target.shape
        assert residual.shape == (2, MID, *target.shape[-2:])


def test_values_worked_out_by_hand():
    """One pixel, two classes: teacher (0.9, 0.1), student (0.5, 0.5)."""
    teacher = torch.tensor([9.0, 1.0], dtype=torch.float64).log().view(1, 2, 1, 1)
    student = torch.zeros_like(teacher)
    label = torch.zeros(1, 1, 1, dtype=torch.long)
    kl = 0.9 * np.log(0.9 / 0.5) + 0.1 * np.log(0.1 / 0.5)
    assert KDLoss(tau=1)(student, teacher).item() == pytest.approx(kl)
    assert KDLoss(tau=1, loss_weight=3)(student, teacher).item() == pytest.approx(3 * kl)
    assert DKDLoss(tau=1, alpha=2, beta=8)(student, teacher, label).item() == pytest.approx(2 * kl)
    # Energies (1, 0) and (0.6, 0.8) over two pixels: ((1 - 0.6)^2 + 0.8^2) / 2.
    attentive = torch.tensor([1.0, 0.0]).view(1, 1, 1, 2)
    other = torch.tensor([0.6, 0.8]).sqrt().view(1, 1, 1, 2)
    assert ATLoss(loss_weight=1)(attentive, other).item() == pytest.approx(0.4)
    # Height 2: the full map (mean of 4, 0 = 2), pool 1 (mean difference 1, squared) with weight 1/2.
    difference = torch.tensor([[2.0, 0.0], [2.0, 0.0]]).view(1, 1, 2, 2)
    assert HCLLoss()(difference, torch.zeros_like(difference)).item() == pytest.approx((2 + 0.5 * 1) / 1.5)
    # Two pixels of one channel are two "classes" of the spatial softmax.
    assert CWDLoss(tau=1, loss_weight=1)(student.view(1, 1, 1, 2), teacher.view(1, 1, 1, 2)).item() == pytest.approx(kl)
    # Opposite predictions correlate with -1 in each row and column.
    sure = torch.tensor([[2.0, 0.0], [0.0, 2.0]], dtype=torch.float64).T.reshape(1, 2, 1, 2)
    assert DISTLoss(beta=1, gamma=3)(sure, sure.flip(1)).item() == pytest.approx(2 + 6)
    assert DISTLoss(beta=1, gamma=3, tau=2)(sure, sure.flip(1)).item() == pytest.approx(4 * (2 + 6))
