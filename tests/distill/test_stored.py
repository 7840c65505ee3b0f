"""A teacher that does not run."""

import pytest
import torch
from pairs import batch, plain, segmentor

from medseg_kd.distill import (
    AT,
    CWD,
    DIST,
    DKD,
    KD,
    LSKD,
    MultiTeacherDistill,
    ReviewKD,
    SingleTeacherDistill,
    StoredTeacher,
)
from medseg_kd.errors import UserError
from medseg_kd.models import RegionSegmentor
from medseg_kd.registry import MODELS
from medseg_kd.report.taps import taps_page

STORED = {"type": "StoredTeacher", "folder": "stored"}


def distil(method: dict, student=None, **options) -> SingleTeacherDistill:
    return SingleTeacherDistill(student or plain(), STORED, method, **options)


@pytest.mark.parametrize("method", [KD, DKD, DIST, LSKD])
@pytest.mark.parametrize("tau", [1, 4])
def test_it_gives_the_losses_of_the_logits_that_were_stored(method: type, tau: float):
    """Whatever the temperature, as log p differs from them by a number for each pixel."""
    torch.manual_seed(0)
    student, teacher = MODELS.build(plain()).eval(), MODELS.build(plain())
    images, labels = batch((30, 32))
    live = SingleTeacherDistill(student, teacher, {"type": method, "tau": tau})
    soft = teacher.eval()(images).softmax(1)
    own = distil({"type": method, "tau": tau}, student)
    losses = [each(images, labels, mode="loss", **more) for each, more in ((live, {}), (own, {"soft": soft}))]
    name = f"distill.loss_{method.__name__.lower()}"
    assert torch.allclose(losses[0][name], losses[1][name], rtol=1e-4) and losses[0][name] > 0


def test_impossible_classes_and_padding_stay_finite():
    soft = torch.zeros(2, 4, 30, 32)
    soft[:, 0] = 1
    images, labels = batch((30, 32))
    for method in (KD, DKD, DIST, CWD):
        model = distil({"type": method}, plain(size_divisor=16))
        losses = model(images, labels, mode="loss", soft=soft)
        total, _ = model.parse_losses(losses)
        total.backward()
        assert torch.isfinite(total) and all(torch.isfinite(p.grad).all() for p in model.student.parameters())


@pytest.mark.parametrize("method", [{"type": AT}, {"type": ReviewKD}, {"type": CWD, "stage": -1}])
def test_methods_on_features_are_refused(method: dict):
    with pytest.raises(UserError, match="probabilities in stored.* has probabilities and no features"):
        distil(method, segmentor())


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"teacher_ckpt": "run"}, "model.teacher_ckpt: the teacher is a StoredTeacher"),
        ({"teacher_dtype": "fp16", "teacher_compile": True}, "model.teacher_dtype and model.teacher_compile"),
    ],
)
def test_it_has_no_weights_and_no_precision(options: dict, told: str):
    with pytest.raises(UserError, match=told):
        distil({"type": KD}, **options)


def test_what_it_cannot_teach_is_refused():
    regions = [("whole", (1, 2, 3), 1), ("core", (2,), 2)]
    student = {**plain(2), "type": RegionSegmentor, "num_classes": 4, "regions": regions, "losses": None}
    with pytest.raises(UserError, match=r"learns the regions .* the teacher \(the probabilities in stored\) none"):
        distil({"type": CWD}, student)
    with pytest.raises(UserError, match="teaches alone: store the mean"):
        MultiTeacherDistill(plain(), [{"model": STORED}, {"model": plain()}], {"type": KD})
    with pytest.raises(UserError, match="the batch has no soft labels"):
        distil({"type": KD})(*batch(), mode="loss")
    for folder in (None, [], [1]):
        with pytest.raises(UserError, match="model.teacher.folder is"):
            StoredTeacher(folder)


def test_it_has_nothing_to_tap_and_nothing_to_save():
    model = distil({"type": KD}, segmentor())
    assert "teacher" not in taps_page(model, (32, 32))
    assert not [*model.teacher.parameters()] and set(model.checkpoint_state()["connectors"]) == set()
