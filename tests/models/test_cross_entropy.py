"""Cross-entropy: equal to MMSegmentation's and PyTorch's, without what makes a GPU wait."""

import warnings

import mmseg.models.losses
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from medseg_kd.errors import UserError
from medseg_kd.models import CrossEntropyLoss
from medseg_kd.registry import MODELS
from tests.device_faults import DeviceFaults

WEIGHTS = [0.25, 1.0, 4.0, 0.0, 2.5]  # exact in float32


def case(dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (2, 5, 40, 30), labels with a sixth of them ignored."""
    rng = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(2, 5, 40, 30, generator=rng, dtype=dtype)
    label = torch.randint(6, (2, 40, 30), generator=rng)
    return logits, torch.where(label == 5, 255, label)


def value_and_gradient(loss, logits, label, **options) -> tuple[torch.Tensor, torch.Tensor]:
    logits = logits.clone().requires_grad_()
    value = loss(logits, label, **options)
    value.backward()
    return value.detach(), logits.grad


@pytest.mark.parametrize("class_weight", [None, WEIGHTS])
def test_equals_mmsegmentation_and_pytorch(class_weight):
    logits, label = case()
    ours = value_and_gradient(CrossEntropyLoss(class_weight=class_weight), logits, label)
    # With class_weight, avg_non_ignore=True is an IndexError there.
    theirs = mmseg.models.losses.CrossEntropyLoss(class_weight=class_weight, avg_non_ignore=class_weight is None)
    weight = None if class_weight is None else torch.tensor(class_weight, dtype=torch.float64)
    for other in (
        value_and_gradient(theirs, logits, label, ignore_index=255),
        value_and_gradient(lambda *args: F.cross_entropy(*args, weight=weight, ignore_index=255), logits, label),
    ):
        torch.testing.assert_close(ours, other, rtol=1e-9, atol=1e-12)


def test_weights_by_hand():
    """Two pixels of probability 1/2 and 1/4 with weights 1 and 3: (ln 2 + 3 ln 4) / 4."""
    logits = torch.tensor([[0.5, 0.75], [0.5, 0.25]]).log().reshape(1, 2, 1, 2)
    loss = CrossEntropyLoss(class_weight=[1.0, 3.0], loss_weight=2.0)
    assert loss(logits, torch.tensor([[[0, 1]]])).item() == pytest.approx(2 * 7 * np.log(2) / 4)


@pytest.mark.parametrize(
    ("class_weight", "fill"), [(None, 255), (WEIGHTS, 255), ([0, 0, 0, 1, 0], 255), ([0, 0, 0, 1, 0], 1)]
)
def test_nothing_to_average_is_a_connected_zero(class_weight, fill):
    logits, label = case(torch.float32)
    value, gradient = value_and_gradient(
        CrossEntropyLoss(class_weight=class_weight), logits, torch.full_like(label, fill)
    )
    assert value == 0 and gradient.eq(0).all()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32])
def test_labels_of_any_integer_type(dtype):
    logits, label = case()
    assert CrossEntropyLoss()(logits, label.to(dtype)) == CrossEntropyLoss()(logits, label)


def test_an_ignored_label_that_uint8_cannot_hold_is_in_no_pixel():
    """In uint8, PyTorch takes -100 for 156."""
    label = torch.full((1, 2, 2), 156, dtype=torch.uint8)
    logits = torch.zeros(1, 160, 2, 2)
    assert CrossEntropyLoss()(logits, label, ignore_index=-100).item() == pytest.approx(np.log(160))


def test_single_precision_under_autocast():
    logits, label = case(torch.float32)
    low = logits.bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        value = CrossEntropyLoss(class_weight=WEIGHTS)(low, label)
    assert value.dtype == torch.float32
    assert value == CrossEntropyLoss(class_weight=WEIGHTS)(low.float(), label)


@pytest.mark.parametrize("class_weight", [None, WEIGHTS])
def test_a_gpu_neither_waits_nor_refuses(class_weight):
    loss = CrossEntropyLoss(class_weight=class_weight)
    logits, label = case(torch.float32)
    with DeviceFaults() as faults:
        value_and_gradient(loss, logits, label.to(torch.uint8))
    assert faults.found == []
    with DeviceFaults() as faults:
        value_and_gradient(mmseg.models.losses.CrossEntropyLoss(avg_non_ignore=True), logits, label, ignore_index=255)
    assert faults.found == ["aten._local_scalar_dense.default"]


def test_weights_move_with_the_model_and_are_not_saved():
    loss = CrossEntropyLoss(class_weight=WEIGHTS)
    assert loss.to("meta").class_weight.device.type == "meta"
    assert loss.state_dict() == {}


def test_a_wrong_number_of_weights_is_refused():
    with pytest.raises(UserError, match="has 3 weights, but the network gives 5 classes"):
        CrossEntropyLoss(class_weight=[1, 2, 3])(*case())


@pytest.mark.parametrize(
    "wrong", ["balanced", "no_such_file.npy", [], [1, -1], [0, 0], [1, float("nan")], ["a"], 3, [[1]]]
)
def test_weights_that_are_none_are_refused(wrong):
    with pytest.raises(UserError, match=r"class_weight \(model.losses in the config\) is .*: expected one number"):
        CrossEntropyLoss(class_weight=wrong)


def test_weights_from_a_file(tmp_path):
    np.save(tmp_path / "weights.npy", WEIGHTS)
    assert CrossEntropyLoss(class_weight=str(tmp_path / "weights.npy")).class_weight.tolist() == WEIGHTS


@pytest.mark.parametrize(
    ("old", "call"),
    [
        (dict(avg_non_ignore=True), {}),
        (dict(use_sigmoid=False, loss_weight=0.4, avg_non_ignore=False), {}),
        (dict(use_sigmoid=True), {}),
        (dict(reduction="none"), {}),
        (dict(avg_non_ignore=True), dict(weight=None, reduction_override="none")),
        (dict(avg_non_ignore=True), dict(weight=torch.ones(2, 40, 30))),
    ],
)
def test_what_mmsegmentation_configs_ask_for_is_what_they_get(old, call):
    """By its bare name, the type is ours under this project's scope."""
    ours = MODELS.build(dict(type="CrossEntropyLoss", **old))
    assert isinstance(ours, CrossEntropyLoss) and ours.loss_name == "loss_ce"
    logits, label = case()
    label = label.where(label != 255, 0) if old.get("use_sigmoid") else label
    theirs = mmseg.models.losses.CrossEntropyLoss(**old)
    torch.testing.assert_close(
        ours(logits, label, ignore_index=255, **call), theirs(logits, label, ignore_index=255, **call)
    )


def test_the_prefix_names_that_of_mmsegmentation():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert type(MODELS.build(dict(type="mmseg.CrossEntropyLoss"))) is mmseg.models.losses.CrossEntropyLoss
