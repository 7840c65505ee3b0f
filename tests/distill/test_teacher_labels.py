"""Slices without a label, which the teacher labels."""

import pytest
import torch
from pairs import batch, encoder_decoder, plain, segmentor
from torch import Tensor
from torch.nn.functional import interpolate

from medseg_kd.distill import (
    KD,
    ConfigurableDistiller,
    Distillation,
    MultiTeacherDistill,
    ReviewKD,
    SingleTeacherDistill,
    StoredTeacher,
)
from medseg_kd.models import FCN, RegionSegmentor
from medseg_kd.registry import MODELS

REGIONS = (("whole", (1, 2, 3), 1), ("core", (2, 3), 2))
METHOD = {"type": KD}


def built(config: dict) -> torch.nn.Module:
    """A model with sharp logits, as trained ones have."""
    torch.manual_seed(3)
    model = MODELS.build(config).eval()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.5)
    return model


def algorithm(teacher: torch.nn.Module | dict, student: dict | None = None, **options) -> SingleTeacherDistill:
    torch.manual_seed(0)
    method = options.pop("distiller", METHOD)
    return SingleTeacherDistill(student or plain(), teacher, method, teacher_labels=True, **options)


def labels_seen(model: Distillation, inputs: Tensor, labels: Tensor, **more: Tensor) -> Tensor:
    """The labels that the student learns from."""
    seen = []
    hook = model.student.register_forward_pre_hook(lambda _, args: seen.append(args[1]))
    model(inputs, labels, mode="loss", **more)
    hook.remove()
    (given,) = seen
    return given


def half_labelled(size: tuple[int, int] = (32, 32)) -> tuple[Tensor, Tensor]:
    """Four slices; the second has no label, of the third nearly all is ignored."""
    inputs, labels = batch(size, n=4)
    labels[1] = 255
    labels[2, 1:] = 255
    return inputs, labels


def test_slices_without_a_label_get_the_classes_of_the_teacher():
    teacher = built(plain())
    inputs, labels = half_labelled()
    given = labels_seen(algorithm(teacher), inputs, labels)
    expected = labels.clone()
    expected[1] = teacher(inputs[1:2]).argmax(1)[0].to(torch.uint8)
    assert given.dtype == labels.dtype and torch.equal(given, expected)
    assert len(expected[1].unique()) > 1 and (labels[1] == 255).all()


def test_the_losses_are_those_of_a_batch_with_these_labels():
    """The student's own and the distillation's, whatever the method."""
    inputs, labels = half_labelled()
    for method in (METHOD, {"type": ReviewKD, "mid_channel": 8}, {"type": ConfigurableDistiller}):
        model = algorithm(built(segmentor(FCN)), segmentor(), distiller=method).eval()
        given = labels_seen(model, inputs, labels)
        assert not (given[1] == 255).any()
        losses, expected = (model(inputs, each, mode="loss") for each in (labels, given))
        assert losses.keys() == expected.keys()
        for name, value in losses.items():
            torch.testing.assert_close(value, expected[name])
        without = SingleTeacherDistill(model.student, model.teacher, method).eval()(inputs, labels, mode="loss")
        assert not torch.isclose(without["loss_ce"], losses["loss_ce"])


def test_smaller_logits_are_resized_and_padding_stays_ignored():
    teacher = built(segmentor(FCN))
    inputs, labels = half_labelled((30, 24))
    given = labels_seen(algorithm(teacher, plain(size_divisor=8)), inputs, labels)
    assert given.shape == (4, 32, 24)
    padded = torch.nn.functional.pad(inputs, (0, 0, 0, 2))
    logits = teacher.network(padded)
    assert logits.shape[-2:] == (4, 3)
    classes = interpolate(logits, (32, 24), mode="bilinear").argmax(1)
    assert torch.equal(given[1, :30], classes[1, :30].to(torch.uint8))
    assert (given[:, 30:] == 255).all()


def test_a_batch_without_labels_trains():
    model = algorithm(built(plain()))
    inputs, labels = batch()
    losses = model(inputs, torch.full_like(labels, 255), mode="loss")
    assert losses["loss_ce"] > 0 and losses["distill.loss_kd"] > 0


def test_without_the_option_such_slices_teach_nothing():
    inputs, labels = half_labelled()
    model = SingleTeacherDistill(plain(), built(plain()), METHOD)
    assert torch.equal(labels_seen(model, inputs, labels), labels)


def test_stored_probabilities():
    inputs, labels = half_labelled()
    soft = torch.rand(4, 4, 32, 32).softmax(1)
    model = algorithm({"type": StoredTeacher, "folder": "stored"})
    assert torch.equal(labels_seen(model, inputs, labels, soft=soft)[1], soft[1].argmax(0).to(torch.uint8))


def test_regions_become_the_classes_of_their_decoding():
    config = {**segmentor(FCN), "type": RegionSegmentor, "regions": REGIONS, "losses": [{"type": "RegionLoss"}]}
    teacher = built(config)
    inputs, labels = half_labelled()
    given = labels_seen(algorithm(teacher, config, distiller={"type": ReviewKD, "mid_channel": 8}), inputs, labels)
    expected = teacher.decode(teacher(inputs))[1]
    assert torch.equal(given[1], expected) and set(expected.unique().tolist()) <= {0, 1, 2}


def test_one_output_for_two_classes():
    config = encoder_decoder()
    for head in ("decode_head", "auxiliary_head"):
        config[head].update(num_classes=2, out_channels=1, threshold=0.4)
        config[head]["loss_decode"] = dict(type="mmseg.CrossEntropyLoss", use_sigmoid=True)
    model = algorithm(config, config, distiller={"type": ReviewKD, "mid_channel": 8})
    inputs, labels = half_labelled()
    labels[labels < 255] %= 2
    given = labels_seen(model, inputs, labels)
    expected = (model.teacher(inputs, mode="tensor").sigmoid() > 0.4).to(torch.uint8)[1, 0]
    assert torch.equal(given[1], expected)


@pytest.mark.parametrize("combine", ["mean", "each"])
def test_several_teachers_label_by_their_mean_probability(combine):
    inputs, labels = half_labelled()
    teachers = [built(plain()), built(segmentor(FCN))]
    entries = [{"model": each} for each in teachers]
    model = MultiTeacherDistill(plain(), entries, METHOD, combine=combine, teacher_labels=True)
    native = [teachers[0](inputs), interpolate(teachers[1].network(inputs), (32, 32), mode="bilinear")]
    expected = sum(each.softmax(1) for each in native).argmax(1)[1]
    assert not all(torch.equal(expected, each.argmax(1)[1]) for each in native)
    assert torch.equal(labels_seen(model, inputs, labels)[1], expected.to(torch.uint8))


@pytest.mark.parametrize("kind", ["RandomRotateFlip", "NnUNetAugmentation"])
def test_what_augmentation_brings_in_from_outside_is_no_label(kind):
    """It is background in a slice that has a label, and in one that has none the teacher's."""
    augmentation = {"type": kind, **({"flip_prob": 0, "rotate_prob": 1} if kind == "RandomRotateFlip" else {})}
    student = plain(data_preprocessor={"augmentation": augmentation})
    model = algorithm(built(plain()), student)
    inputs, labels = half_labelled()
    labels[:] = 255
    moved = model.data_preprocessor({"inputs": inputs, "labels": labels, "meta": None}, training=True)
    assert not torch.equal(moved["inputs"], inputs)
    assert (moved["labels"] == 255).all()
    assert not (labels_seen(model, moved["inputs"], moved["labels"]) == 255).any()
    labels[0] = 1
    moved = model.data_preprocessor({"inputs": inputs, "labels": labels, "meta": None}, training=True)
    assert set(moved["labels"][0].unique().tolist()) <= {0, 1} and (moved["labels"][1:] == 255).all()
