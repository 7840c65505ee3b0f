"""The loss of regions: numbers worked out by hand, and nnU-Net's formula."""

from math import log

import pytest
import torch
from torch import Tensor

from medseg_kd.models import RegionLoss
from medseg_kd.models.losses import gathering
from tests.device_faults import DeviceFaults

REGIONS = [(1, 2), (2,)]


def two_regions() -> tuple[Tensor, Tensor]:
    """Four pixels of one row, probabilities of whole 1/2 3/4 3/4 1/4 and of core 1/4 1/4 1/2 1/2; labels 1 2 0 1."""
    p = torch.tensor([[[0.5, 0.75, 0.75, 0.25]], [[0.25, 0.25, 0.5, 0.5]]])
    return p.logit()[None], torch.tensor([[[1, 2, 0, 1]]], dtype=torch.uint8)


# Masks: whole 1 1 0 1, core 0 1 0 0. Overlaps 3/2 and 1/4, probabilities 9/4 and 3/2, masks 3 and 1.
DICE = 1 - (2 * 1.5 / 5.25 + 2 * 0.25 / 2.5) / 2
# Probability of the right answer: whole 1/2 3/4 1/4 1/4, core 3/4 1/4 1/2 1/2.
BCE = -(3 * log(1 / 2) + 2 * log(3 / 4) + 3 * log(1 / 4)) / 8


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, BCE + DICE),
        ({"bce_weight": 0.0}, DICE),
        ({"dice_weight": 0.0}, BCE),
        ({"bce_weight": 0.5, "dice_weight": 3.0}, 0.5 * BCE + 3 * DICE),
        ({"batch_dice": False}, BCE + DICE),
    ],
)
def test_by_hand(options: dict, expected: float) -> None:
    assert RegionLoss(REGIONS, eps=0, **options)(*two_regions()).item() == pytest.approx(expected, abs=1e-6)


def test_images_have_a_dice_of_their_own() -> None:
    logits = two_regions()[0].unflatten(3, (2, 2))[0].permute(2, 0, 1, 3)
    label = two_regions()[1].reshape(2, 1, 2)
    assert RegionLoss(REGIONS, eps=0)(logits, label).item() == pytest.approx(BCE + DICE, abs=1e-6)
    # Image 1: whole 2 * 5/4 / (5/4 + 2), core 2 * 1/4 / (1/2 + 1). Image 2: 2 * 1/4 / (1 + 1), 0.
    dice = 1 - (2.5 / 3.25 + 0.5 / 1.5 + 0.5 / 2 + 0) / 4
    value = RegionLoss(REGIONS, eps=0, bce_weight=0, batch_dice=False)(logits, label).item()
    assert value == pytest.approx(dice, abs=1e-6)


@pytest.mark.parametrize("ignored", [255, 7])
def test_ignored_pixels_take_no_part(ignored: int) -> None:
    logits, label = two_regions()
    label[..., 3] = ignored
    logits[..., 3] = torch.inf
    logits.requires_grad_()
    value = RegionLoss(REGIONS)(logits, label, ignore_index=ignored)
    torch.testing.assert_close(value, RegionLoss(REGIONS)(logits[..., :3], label[..., :3]))
    value.backward()
    assert logits.grad[..., 3].abs().max() == 0 < logits.grad[..., :3].abs().min()


def test_no_valid_pixel() -> None:
    logits = torch.randn(1, 2, 3, 4, requires_grad=True)
    value = RegionLoss(REGIONS)(logits, torch.full((1, 3, 4), 255))
    value.backward()
    assert value.item() == 0 == logits.grad.abs().max()


def test_half_precision_is_summed_in_single() -> None:
    """200,000 pixels of probability 1/2 overflow float16."""
    label = torch.ones(1, 400, 500, dtype=torch.uint8)
    with torch.autocast("cpu", torch.bfloat16):
        value = RegionLoss([(1,)])(torch.zeros(1, 1, 400, 500, dtype=torch.float16), label)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(log(2) + 1 - 1 / 1.5, abs=1e-5)


def test_a_gpu_does_not_wait_and_a_checkpoint_holds_no_table() -> None:
    loss = RegionLoss(REGIONS)
    with DeviceFaults() as faults:
        loss(torch.zeros(2, 2, 8, 8, requires_grad=True), torch.zeros(2, 8, 8, dtype=torch.uint8)).backward()
    assert faults.found == [] and not loss.state_dict()
    assert loss.to("meta").table.device.type == "meta"


def test_the_batch_of_several_processes_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = torch.Generator().manual_seed(0)
    logits, label = torch.randn(4, 2, 5, 5, generator=rng), torch.randint(3, (4, 5, 5), generator=rng)
    loss = RegionLoss(REGIONS, bce_weight=0)
    whole = loss(logits, label)
    sums: list[Tensor] = []
    monkeypatch.setattr(gathering, "get_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda total, _: sums.append(total.clone()))
    loss(logits[2:], label[2:])
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda total, _: total.add_(sums.pop(0)))
    torch.testing.assert_close(loss(logits[:2], label[:2]), whole)
