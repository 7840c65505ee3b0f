"""Losses that are not ours: PyTorch's, MONAI's, MMSegmentation's, the user's."""

import warnings
from typing import Any

import mmseg.models.losses as mmseg_losses
import monai.losses
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medseg_kd.errors import UserError
from medseg_kd.models import CrossEntropyLoss, SoftDiceLoss
from medseg_kd.models.losses import build_losses, trial
from tests.models.segmentors import CLASSES, Pointwise, batch, build

MONAI = dict(to_onehot_y=True, softmax=True)
RATIO = [0.5, 1.0, 2.0, 4.0]


class Own(nn.Module):
    """What a user writes."""

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        return F.nll_loss(logits.log_softmax(1), label)


class OwnWithAll(nn.Module):
    """A loss that takes all that may be asked for."""

    def __init__(self, loss_weight: float = 1.0, loss_name: str = "loss_mine") -> None:
        super().__init__()
        self.loss_weight, self.loss_name = loss_weight, loss_name

    def forward(self, logits: Tensor, label: Tensor, ignore_index: int) -> Tensor:
        return self.loss_weight * F.cross_entropy(logits, label, ignore_index=ignore_index)


def one(cfg: Any, **options: Any) -> Any:
    """A loss and how it is called."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (loss,), (call,) = build_losses([cfg], CLASSES, CLASSES, 255, **options)
    return loss, call


def case() -> tuple[Tensor, Tensor]:
    """Logits (2, C, 12, 10) and labels, a quarter of them to be ignored."""
    _, label = batch()
    label = label.long()
    label[:, :3] = 255
    return torch.randn(2, CLASSES, 12, 10, generator=torch.Generator().manual_seed(1)), label


@pytest.mark.parametrize(
    ("cfg", "expected"),
    [
        (dict(type=nn.CrossEntropyLoss), lambda x, y: F.cross_entropy(x, y)),
        (dict(type="torch.nn.CrossEntropyLoss", label_smoothing=0.1), nn.CrossEntropyLoss(label_smoothing=0.1)),
        (dict(type=nn.CrossEntropyLoss, weight=RATIO), nn.CrossEntropyLoss(torch.tensor(RATIO))),
        (dict(type="monai.losses.DiceCELoss", **MONAI), lambda x, y: monai.losses.DiceCELoss(**MONAI)(x, y[:, None])),
        (dict(type="monai.DiceLoss", **MONAI), lambda x, y: monai.losses.DiceLoss(**MONAI)(x, y[:, None])),
        (
            dict(
                type=monai.losses.FocalLoss, to_onehot_y=True, use_softmax=True
            ),  # not told an ignored label, see below
            lambda x, y: monai.losses.FocalLoss(to_onehot_y=True, use_softmax=True)(x, y[:, None]),
        ),
        (
            dict(type=monai.losses.DiceLoss, weight=RATIO, **MONAI),
            lambda x, y: monai.losses.DiceLoss(weight=torch.tensor(RATIO), **MONAI)(x, y[:, None]),
        ),
        (dict(type="monai.NACLLoss", classes=CLASSES, dim=2), monai.losses.NACLLoss(CLASSES, 2)),
        (dict(type="mmseg.DiceLoss", use_sigmoid=False), mmseg_losses.DiceLoss(use_sigmoid=False)),
        (dict(type="TverskyLoss"), mmseg_losses.TverskyLoss()),
        (dict(type=mmseg_losses.LovaszLoss, reduction="none"), mmseg_losses.LovaszLoss(reduction="none")),
        (dict(type="OhemCrossEntropy", min_kept=50), mmseg_losses.OhemCrossEntropy(min_kept=50)),
        (dict(type=Own), Own()),
        (Own(), Own()),
        (dict(type=OwnWithAll, loss_weight=0.5), lambda x, y: 0.5 * F.cross_entropy(x, y)),
    ],
    ids=lambda value: str(value.get("type")) if isinstance(value, dict) else "",
)
def test_the_value_is_that_of_the_loss(cfg: Any, expected: Any) -> None:
    x, labels = batch()
    model = build(losses=[cfg])
    (value,) = model.loss(x, labels).values()
    torch.testing.assert_close(value, expected(model.network(x), labels.long()))
    value.backward()
    assert model.network.heads[0].weight.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("cfg", "names"),
    [
        (
            [dict(type=nn.CrossEntropyLoss), dict(type=nn.CrossEntropyLoss, weight=RATIO)],
            ["crossentropy", "crossentropy2"],
        ),
        ([dict(type=SoftDiceLoss), dict(type="monai.DiceLoss", **MONAI)], ["dice", "dice2"]),
        ([dict(type=Own, loss_name="loss_a"), OwnWithAll()], ["a", "mine"]),
        (dict(type=Own), ["own"]),
        ([dict(type=Own, loss_name="loss"), Own()], ["own", "own2"]),
    ],
)
def test_names_in_the_log(cfg: Any, names: list[str]) -> None:
    x, labels = batch()
    model = build(losses=cfg)
    values = model.loss(x, labels)
    assert list(values) == [f"loss_{name}" for name in names]
    total, logged = model.parse_losses(values)
    torch.testing.assert_close(total, sum(values.values()))
    assert len(logged) == 1 + len(names)


def test_weight_and_name_work_for_every_class() -> None:
    x, labels = batch()
    values = build(losses=[dict(type=Own, loss_weight=3, loss_name="loss_x"), dict(type=Own)]).loss(x, labels)
    torch.testing.assert_close(values["loss_x"], 3 * values["loss_own"])


@pytest.mark.parametrize("avg_non_ignore", [False, True])
def test_class_weights_of_mmsegmentation(avg_non_ignore: bool) -> None:
    """Its own class fails with both options."""
    x, label = case()
    cfg = dict(type=mmseg_losses.CrossEntropyLoss, class_weight=RATIO, avg_non_ignore=avg_non_ignore, loss_weight=0.5)
    loss, call = one(cfg)
    torch.testing.assert_close(
        call(loss, x, label), 0.5 * F.cross_entropy(x, label, torch.tensor(RATIO), ignore_index=255)
    )


@pytest.mark.parametrize(
    "cfg",
    [
        dict(type=nn.CrossEntropyLoss),
        dict(type="monai.DiceLoss", batch=True, include_background=False, **MONAI),
        dict(type="monai.TverskyLoss", batch=True, **MONAI),
        dict(type="OhemCrossEntropy"),
        dict(type="LovaszLoss", reduction="none"),
        dict(type="TverskyLoss"),
        dict(type=OwnWithAll),
        dict(type=CrossEntropyLoss),
        dict(type=SoftDiceLoss),
    ],
    ids=lambda cfg: str(cfg["type"]),
)
def test_ignored_pixels_take_no_part(cfg: dict[str, Any]) -> None:
    """The loss is that of the pixels that are left."""
    x, label = case()
    loss, call = one(cfg)
    torch.testing.assert_close(call(loss, x, label), call(loss, x[:, :, 3:], label[:, 3:]))


@pytest.mark.parametrize(
    "cfg",
    [
        dict(type="monai.DiceCELoss", **MONAI),
        dict(type="mmseg.DiceLoss"),
        dict(type="HuasdorffDisstanceLoss"),
        dict(type=nn.CrossEntropyLoss, ignore_index=-100),
        dict(type=Own),
    ],
    ids=lambda cfg: str(cfg["type"]),
)
def test_a_loss_that_counts_ignored_pixels_is_refused_where_there_are_any(cfg: dict[str, Any]) -> None:
    x, label = case()
    loss, call = one(cfg)
    assert call(loss, x[:, :, 3:], label[:, 3:]) > 0
    with pytest.raises(UserError, match=r"model.losses\[0\] \(\w+\) counts all pixels, but .* label is 255 \(model.ig"):
        call(loss, x, label)


@pytest.mark.parametrize("cfg", [dict(type="monai.DiceCELoss", **MONAI), dict(type="LovaszLoss", reduction="none")])
def test_padding_is_no_ignored_pixel(cfg: dict[str, Any]) -> None:
    x, labels = batch((13, 11))
    (padded,), (plain,) = (build(losses=[cfg], size_divisor=n).loss(x, labels).values() for n in (16, 1))
    torch.testing.assert_close(padded, plain)


def test_monai_s_focal_loss_keeps_its_scale() -> None:
    """Told an ignored label, it divides by the pixels alone: the classes times as much."""
    x, label = case()
    x, label = x[:, :, 3:], label[:, 3:]
    options = dict(to_onehot_y=True, use_softmax=True)
    plain, told = (one(dict(type="monai.FocalLoss", **options, **more)) for more in ({}, dict(ignore_index=255)))
    torch.testing.assert_close(CLASSES * plain[1](plain[0], x, label), told[1](told[0], x, label))


def test_no_losses_cannot_be_trained_on() -> None:
    model = build(losses=None)
    with pytest.raises(UserError, match="model.losses is empty: there is nothing to train on"):
        model.parse_losses(model.loss(*batch()))


def test_weights_of_classes_move_and_are_not_saved() -> None:
    losses = [dict(type=nn.CrossEntropyLoss, weight=RATIO), dict(type="monai.DiceLoss", weight=RATIO, **MONAI)]
    model = build(losses=losses)
    assert not [key for key in model.state_dict() if key.startswith("losses")]
    assert model.to("meta").losses[0].weight.is_meta


def test_building_leaves_the_random_state_and_the_loss_alone() -> None:
    class Stateful(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.calls = 0

        def forward(self, logits: Tensor, label: Tensor) -> Tensor:
            self.calls += 1
            return F.cross_entropy(logits + torch.rand(()), label)

    torch.manual_seed(3)
    loss, _ = one(dict(type=Stateful))
    drawn = torch.rand(3)
    torch.manual_seed(3)
    assert torch.equal(drawn, torch.rand(3)) and loss.calls == 0 and loss.training


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_model_may_be_built_where_no_gradient_is_taken(mode: Any) -> None:
    with mode():
        assert build(losses=[dict(type=SoftDiceLoss)]).loss_calls[0].leaves_out


def test_without_memory_nothing_is_tried() -> None:
    """A network is built on the meta device to look at its weights."""
    with torch.device("meta"):
        model = build(
            dict(type=Pointwise), losses=[dict(type=SoftDiceLoss), dict(type=nn.CrossEntropyLoss, weight=RATIO)]
        )
    assert model.losses[1].weight.is_meta


@pytest.mark.parametrize("there", [False, True])
def test_a_loss_that_cannot_run_on_the_cpu_is_tried_on_a_gpu(there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    class ForGpus(nn.Module):
        def forward(self, logits: Tensor, label: Tensor) -> Tensor:
            raise RuntimeError("expected a CUDA tensor")

    tried: list[str] = []
    on_cpu = trial._try

    def on(loss: nn.Module, call: Any, outputs: int, classes: int, device: str) -> None:
        tried.append(device)
        if device == "cpu" or not there:
            on_cpu(loss, call, outputs, classes, "cpu")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(nn.Module, "cuda", lambda self: self)
    monkeypatch.setattr(trial, "_try", on)
    one(dict(type=Own))
    assert tried == ["cpu"]
    if there:
        _, call = one(ForGpus())
        assert not call.leaves_out
    else:
        with pytest.raises(UserError, match=r"\(ForGpus\) cannot be called as .*: expected a CUDA"):
            one(ForGpus())
    assert tried == ["cpu", "cpu", "cuda"]
