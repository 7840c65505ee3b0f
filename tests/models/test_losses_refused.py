"""Losses that cannot work are refused when the model is built, with the shapes that they were called with."""

from typing import Any

import mmseg.models.losses as mmseg_losses
import pytest
import torch.nn.functional as F
from torch import Tensor, nn

from medseg_kd.errors import UserError
from medseg_kd.models import CrossEntropyLoss, SoftDiceLoss
from tests.models.segmentors import build
from tests.models.test_losses_of_others import Own


def nothing() -> None:
    """A type that builds no loss."""


class Shape(nn.Module):
    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        return F.cross_entropy(logits, label, reduction="none").mean(0)


class Accuracy(nn.Module):
    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        return (logits.argmax(1) == label).float().mean()


class Unbounded(nn.Module):
    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        return logits.log().mean()


class Named(Own):
    loss_name = "dice"


@pytest.mark.parametrize(
    ("cfg", "message"),
    [
        ("SoftDiceLoss", r"model.losses\[0\] is 'SoftDiceLoss', expected dict\(type=..., ...\) or a module"),
        (7, r"model.losses\[0\] is 7, expected dict"),
        (
            dict(type="SoftDiceLos"),
            r"\[0\].type is 'SoftDiceLos', which is no loss; did you mean SoftDiceLoss",
        ),
        (dict(type="monai.losses.DiceCELos"), r"which is no loss; did you mean DiceCELoss"),
        (
            dict(type=SoftDiceLoss, smooth=1),
            r"\[0\]: SoftDiceLoss: got an unexpected keyword argument 'smooth'. It takes",
        ),
        (dict(type="LovaszLoss"), r"\[0\]: LovaszLoss: reduction should be 'none' when per_image is False"),
        (dict(type=len), r"\[0\]: len: "),
        (dict(type=Own, loss_weight="1"), r"\[0\] gives loss_weight='1', expected .* a number"),
        (dict(type=SoftDiceLoss, loss_weight="1"), r"\[0\] gives loss_weight='1', expected .* a number"),
        (dict(type=nn.NLLLoss), r"\[0\] \(NLLLoss\) falls without end .*: it takes them for the logarithms"),
        (dict(type=nothing), r"\[0\] gives a NoneType, expected a torch.nn.Module"),
        (dict(type=Named), r"\(Named\) is named 'dice' and would be logged but .* Set loss_name='loss_dice'"),
        (dict(type=SoftDiceLoss, loss_name="dice"), "Set loss_name='loss_dice'"),
        (
            dict(type=nn.BCEWithLogitsLoss),
            r"cannot be called as loss\(logits \(2, 4, 16, 12\), label \(2, 16, 12\)\): Target size",
        ),
        (dict(type=nn.MSELoss), r"\(MSELoss\) cannot be called as .*: Using a target size"),
        (dict(type=nn.CrossEntropyLoss, reduction="none"), r"gives a value of shape \(2, 16, 12\), expected a scalar"),
        (dict(type=Shape), r"gives a value of shape \(16, 12\)"),
        (dict(type=mmseg_losses.Accuracy), "gives a value of type list"),
        (dict(type=Accuracy), "gives no gradient, so nothing could be trained on it"),
        (dict(type=Unbounded), "gives nan, so nothing"),
        (dict(type="monai.DiceLoss", to_onehot_y=True), r"takes logits for probabilities. Set softmax=True"),
        (
            dict(type="monai.DiceCELoss", softmax=True),
            r"label \(2, 1, 16, 12\)\): ground truth .* Set to_onehot_y=True",
        ),
        (dict(type=nn.CrossEntropyLoss, weight=[1, 2]), "weight tensor should be defined either for all"),
        (dict(type=mmseg_losses.CrossEntropyLoss, class_weight=[1, 2]), r"\[0\] \(CrossEntropyLoss\) cannot be called"),
        (dict(type=CrossEntropyLoss, class_weight=[1, 2]), "class_weight .* has 2 weights, but the network gives 4"),
    ],
)
def test_what_cannot_work_is_told_when_the_model_is_built(cfg: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build(losses=cfg)
