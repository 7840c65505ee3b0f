"""Soft Dice loss: numbers worked out by hand, and MONAI's."""

import pytest
import torch
from monai.losses import DiceLoss

from medseg_kd.models import SoftDiceLoss
from medseg_kd.registry import MODELS


def two_classes() -> tuple[torch.Tensor, torch.Tensor]:
    """Two images of 1x2 pixels: foreground probabilities (1/2, 1/4), (3/4, 1/2), labels (1, 0), (1, 1)."""
    foreground = torch.tensor([[[0.5, 0.25]], [[0.75, 0.5]]])
    return torch.stack((1 - foreground, foreground), 1).log(), torch.tensor([[[1, 0]], [[1, 1]]])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        # Overlap 1/2 + 3/4 + 1/2, sizes 2 and 3.
        ({}, 1 - 2 * 1.75 / 5),
        # Images: 2 * 1/2 / (3/4 + 1) and 2 * 5/4 / (5/4 + 2).
        ({"batch_dice": False}, 1 - (1 / 1.75 + 2.5 / 3.25) / 2),
        # Background: overlap 3/4, sizes 2 and 1.
        ({"include_background": True}, 1 - (3.5 / 5 + 1.5 / 3) / 2),
        ({"loss_weight": 3.0}, 3 * (1 - 3.5 / 5)),
    ],
)
def test_by_hand(options, expected):
    assert SoftDiceLoss(eps=0, **options)(*two_classes()).item() == pytest.approx(expected, abs=1e-6)


def test_ignored_pixels_take_no_part_by_hand():
    logits, label = two_classes()
    label[1, 0, 1] = 255
    # The last pixel is gone from overlap (5/4), probability (3/2) and label (2).
    assert SoftDiceLoss(eps=0)(logits, label).item() == pytest.approx(1 - 2.5 / 3.5, abs=1e-6)
    label[1, 0, 1] = 7
    assert SoftDiceLoss(eps=0)(logits, label, ignore_index=7).item() == pytest.approx(1 - 2.5 / 3.5, abs=1e-6)


def test_eps_by_hand():
    """Class 2 is nowhere in the label: 2 * 0 + eps over its probability 1/2 + eps."""
    logits = torch.tensor([0.25, 0.25, 0.5]).log().reshape(1, 3, 1, 1)
    label = torch.ones(1, 1, 1, dtype=torch.long)
    expected = 1 - ((0.5 + 0.1) / (1.25 + 0.1) + 0.1 / (0.5 + 0.1)) / 2
    assert SoftDiceLoss(eps=0.1)(logits, label).item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("batch", "background"), [(True, False), (False, False), (True, True)])
def test_equals_monai(batch, background):
    rng = torch.Generator().manual_seed(1)
    logits = torch.randn(3, 5, 9, 11, generator=rng) * 3
    label = torch.randint(4, (3, 9, 11), generator=rng)  # class 4 is absent
    theirs = DiceLoss(
        softmax=True, to_onehot_y=True, batch=batch, include_background=background, smooth_nr=1e-5, smooth_dr=1e-5
    )
    mine, other = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    value = SoftDiceLoss(batch_dice=batch, include_background=background)(mine, label)
    expected = theirs(other, label[:, None])
    torch.testing.assert_close(value, expected)
    value.backward()
    expected.backward()
    torch.testing.assert_close(mine.grad, other.grad)


def test_ignored_pixels_equal_their_absence():
    rng = torch.Generator().manual_seed(2)
    logits = torch.randn(2, 4, 6, 8, generator=rng)
    label = torch.randint(4, (2, 6, 8), generator=rng)
    masked = label.clone()
    masked[..., 5:] = 255
    logits.requires_grad_()
    value = SoftDiceLoss()(logits, masked)
    torch.testing.assert_close(value, SoftDiceLoss()(logits[..., :5], label[..., :5]))
    value.backward()
    assert logits.grad[..., 5:].abs().max() == 0 < logits.grad[..., :5].abs().max()


def test_a_batch_of_ignored_pixels_is_finite():
    logits = torch.randn(2, 4, 6, 8, requires_grad=True)
    value = SoftDiceLoss()(logits, torch.full((2, 6, 8), 255))
    value.backward()
    assert value.item() == 0
    assert logits.grad.abs().max() == 0


def test_a_perfect_prediction_costs_nothing():
    label = torch.randint(4, (2, 6, 8))
    logits = 100 * torch.nn.functional.one_hot(label, 4).movedim(-1, 1).float()
    assert SoftDiceLoss()(logits, label).item() == pytest.approx(0, abs=1e-6)


def test_half_precision_is_summed_in_single():
    """200,000 pixels of probability 1/2 overflow float16 and stall in bfloat16."""
    label = torch.ones(1, 400, 500, dtype=torch.long)
    value = SoftDiceLoss()(torch.zeros(1, 2, 400, 500, dtype=torch.bfloat16), label)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(1 - 1 / 1.5, abs=1e-5)


def test_it_is_built_by_name():
    loss = MODELS.build(dict(type="SoftDiceLoss", loss_name="loss_d"))
    assert isinstance(loss, SoftDiceLoss) and loss.loss_name == "loss_d"
