"""Soft Dice loss: numbers worked out by hand, and MONAI's."""

from pathlib import Path

import pytest
import torch
import torch.distributed
import torch.multiprocessing
from monai.losses import DiceLoss
from torch import nn

from medseg_kd.models import SoftDiceLoss
from medseg_kd.registry import MODELS
from tests.device_faults import DeviceFaults
from tests.fork_server import running_server


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


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32])
def test_labels_of_any_integer_type(dtype):
    logits, label = two_classes()
    label[0, 0, 0] = 255
    assert SoftDiceLoss()(logits, label.to(dtype)) == SoftDiceLoss()(logits, label)


def test_double_precision_stays():
    logits, label = two_classes()
    assert SoftDiceLoss(eps=0)(logits.double(), label).dtype == torch.float64


class Integers(DeviceFaults):
    """Sees too how many bytes the largest integer tensor has."""

    largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = super().__torch_dispatch__(func, types, args, kwargs)
        if isinstance(result, torch.Tensor) and not result.is_floating_point():
            self.largest = max(self.largest, result.nbytes)
        return result


def test_a_gpu_does_not_wait_and_holds_no_integer_one_hot():
    logits = torch.zeros(2, 9, 16, 16, requires_grad=True)
    label = torch.zeros(2, 16, 16, dtype=torch.uint8)
    with Integers() as faults:
        SoftDiceLoss()(logits, label).backward()
    assert faults.found == []
    assert faults.largest <= 9 * label.nbytes


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Four images with organs of unequal share, and padding in one of them."""
    rng = torch.Generator().manual_seed(3)
    image = torch.randn(4, 1, 8, 8, generator=rng, dtype=torch.float64)
    label = (image[:, 0] > torch.tensor([-1.0, 0.0, 0.5, 1.0])[:, None, None]).long()
    label[3, :4] = 255
    return image, label


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Conv2d(1, 3, 3, padding=1).double()


def train_on_half(rank: int, folder: Path) -> None:
    """One process of two: the loss and the averaged gradient of its half of the batch."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder / 'store'}", rank=rank, world_size=2)
    model = network()
    image, label = (each[2 * rank :][:2] for each in batch())
    value = SoftDiceLoss(loss_weight=2.0)(model(image), label)
    value.backward()
    gradients = [each.grad / 2 for each in model.parameters()]
    for gradient in gradients:  # as DDP does, whose end may hang after so short a life
        torch.distributed.all_reduce(gradient)
    torch.save([value.detach(), *gradients], folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_equal_one_with_both_halves(tmp_path):
    running_server()
    torch.multiprocessing.start_processes(train_on_half, (tmp_path,), nprocs=2, start_method="forkserver")
    model = network()
    image, label = batch()
    value = SoftDiceLoss(loss_weight=2.0)(model(image), label)
    value.backward()
    expected = [value.detach(), *(each.grad for each in model.parameters())]
    for rank in range(2):
        torch.testing.assert_close(torch.load(tmp_path / f"{rank}.pt"), expected, rtol=1e-9, atol=1e-12)
