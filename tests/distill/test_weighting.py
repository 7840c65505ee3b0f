"""Weights that follow the iteration, and weights that follow the gradients."""

import pytest
import torch
from pairs import Plain, batch, plain, segmentor
from torch import Tensor, nn

from medseg_kd.distill import AT, CWD, KD, AttnFD, MultiTeacherDistill, ReviewKD, SingleTeacherDistill, WeightSchedule
from medseg_kd.distill.algorithm import Distillation
from medseg_kd.engine.graphs import graphed_step
from medseg_kd.errors import UserError
from medseg_kd.models import FCN
from medseg_kd.registry import MODELS
from tests.device_faults import DeviceFaults

SHARE = {"type": "GradientShare", "share": 0.2, "every": 3}


def distil(method: dict, student: dict | None = None, **options) -> SingleTeacherDistill:
    torch.manual_seed(0)
    return SingleTeacherDistill(student or segmentor(), MODELS.build(segmentor(FCN, width=6)), method, **options)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [1, 1, 1, 1, 1, 1]),
        ({"warm_up": 4}, [0.25, 0.5, 0.75, 1, 1, 1]),
        ({"decay": "linear"}, [1, 0.9, 0.8, 0.7, 0.6, 0.5]),
        ({"warm_up": 2, "decay": "linear", "end": 4}, [0.5, 1, 1, 0.5, 0, 0]),
        ({"decay": "cosine", "begin": 1, "end": 5}, [1, 1, 0.5 + 0.125**0.5, 0.5, 0.5 - 0.125**0.5, 0]),
    ],
)
def test_a_schedule_is_a_function_of_the_iteration(options, expected):
    schedule = WeightSchedule(**options)
    assert [schedule.at(iteration, 10) for iteration in range(6)] == pytest.approx(expected)


def test_a_schedule_weighs_every_loss_and_is_logged():
    """Without a copy of the weight on the host: the number on the device is what changes."""
    plainly = distil({"type": AT}).eval()
    expected = plainly(*batch(), mode="loss")
    algorithm = distil({"type": AT, "weight_schedule": {"warm_up": 4}}).eval()
    factor = algorithm.distiller.weighting.factor
    for iteration, weight in ((0, 0.25), (2, 0.75), (9, 1)):
        algorithm.set_iteration(iteration, 10)
        losses = algorithm(*batch(), mode="loss")
        assert losses["distill.weight"] == weight and algorithm.distiller.weighting.factor is factor
        for name, value in expected.items():
            assert losses[name].item() == pytest.approx(value.item() * (weight if "distill" in name else 1), rel=1e-5)
        total, log = algorithm.parse_losses(losses)
        assert total.item() == pytest.approx(sum(v.item() for k, v in losses.items() if "loss" in k), rel=1e-6)
        assert log["distill.weight"] == weight
    assert "distill_weights" not in algorithm.checkpoint_state()


def gradients(algorithm: Distillation, losses: dict[str, Tensor], taps: list[Tensor], names: list[str]) -> float:
    """Norm of the gradient on the taps of the sum of some losses."""
    found = torch.autograd.grad(sum(losses[name] for name in names), taps, retain_graph=True, allow_unused=True)
    return torch.cat([each.flatten() for each in found if each is not None]).norm().item()


class InPlace(Plain):
    """What is tapped is a layer, which an activation overwrites."""

    def forward(self, x):
        return self.last(nn.functional.relu(self.second(self.first(x)), inplace=True))


LAYER = {
    "type": "ConfigurableDistiller",
    "student_recorders": {"feat": {"type": "ModuleOutputs", "source": "network.second"}},
    "teacher_recorders": {"feat": {"type": "ModuleOutputs", "source": "network.backbone.layer1"}},
    "connectors": {"widen": {"type": "ConvConnector", "in_channel": 4, "out_channel": 6}},
    "distill_losses": {"loss_b": {"type": "CWDLoss", "loss_weight": 7}, "loss_a": {"type": "ATLoss"}},
    "loss_forward_mappings": {
        name: {
            "student": {"recorder": "feat", "from_student": True, "connector": "widen" if name == "loss_b" else None},
            "teacher": {"recorder": "feat", "from_student": False},
        }
        for name in ("loss_a", "loss_b")
    },
}
CASES = {
    "KD": ({"type": KD}, None),
    "AT": ({"type": AT}, None),
    "CWD on a stage": ({"type": CWD, "stage": -1}, None),
    "ReviewKD": ({"type": ReviewKD, "mid_channel": 8}, None),
    "AttnFD": ({"type": AttnFD}, None),
    "two losses on a layer": (LAYER, {**plain(), "network": InPlace()}),
}


@pytest.mark.parametrize("case", CASES)
def test_each_gradient_at_the_tap_is_the_share_of_the_students_own(case):
    method, student = CASES[case]
    algorithm = distil({**method, "loss_weight": SHARE}, student)
    seen = {}
    distiller = algorithm.distiller
    measure = distiller.weighting.rule.measure

    def watched(losses, own, taps):
        seen.update(taps)
        measure(losses, own, taps)

    distiller.weighting.rule.measure = watched
    losses = algorithm(*batch(), mode="loss")
    own = [name for name in losses if "loss" in name and not name.startswith("distill.")]
    assert set(seen) == set(distiller.distill_losses)
    for name, taps in seen.items():
        assert len(taps) == (4 if case in ("ReviewKD", "AttnFD") else 1)
        told = losses[f"distill.weight.{name.removeprefix('loss_')}"]
        assert told.isfinite() and told > 0 and told != 1
        ratio = gradients(algorithm, losses, taps, [f"distill.{name}"]) / gradients(algorithm, losses, taps, own)
        assert ratio == pytest.approx(0.2, rel=1e-4)
    sum(value for name, value in losses.items() if "loss" in name).backward()
    assert all(parameter.grad is None for parameter in algorithm.teacher.parameters())


def test_it_measures_every_so_many_iterations_and_goes_on_from_a_checkpoint():
    algorithm = distil({"type": KD, "loss_weight": SHARE, "weight_schedule": {"warm_up": 2}})
    images, labels = batch()
    weights = []
    for iteration in range(5):
        algorithm.set_iteration(iteration, 5)
        losses = algorithm(images * (1 + iteration), labels, mode="loss")
        weights.append(algorithm.distiller.weighting.rule.weights.item())
        factor = min(1, (iteration + 1) / 2)
        assert losses["distill.weight.kd"].item() == pytest.approx(weights[-1] * factor)
    assert weights[0] == weights[1] == weights[2] != weights[3] == weights[4]
    again = distil({"type": KD, "loss_weight": SHARE})
    again.load_checkpoint_state(algorithm.checkpoint_state(), "a checkpoint")
    again.set_iteration(5, 9)
    again(images, labels, mode="loss")
    assert again.distiller.weighting.rule.weights.item() == weights[-1]
    begun = distil({"type": KD, "loss_weight": SHARE})
    begun.load_checkpoint_state(
        {k: v for k, v in algorithm.checkpoint_state().items() if k != "distill_weights"}, "an older checkpoint"
    )
    begun.set_iteration(5, 9)
    begun(images, labels, mode="loss")
    assert begun.distiller.weighting.rule.weights.item() not in (1, weights[-1])


def test_what_cannot_be_measured_leaves_the_weight_as_it_was():
    student = segmentor()
    torch.manual_seed(0)
    teacher = MODELS.build(student)
    algorithm = SingleTeacherDistill(MODELS.build(student), teacher, {"type": KD, "loss_weight": SHARE}).eval()
    algorithm.student.load_state_dict(teacher.state_dict())
    losses = algorithm(*batch(), mode="loss")  # a student that is its teacher: a gradient of 0
    assert losses["distill.weight.kd"] == 1 and losses["distill.loss_kd"].abs() < 1e-6


def test_each_of_several_teachers_has_its_own():
    torch.manual_seed(0)
    teachers = [{"model": MODELS.build(segmentor(kind, width=6)), "weight": 2} for kind in (FCN, FCN)]
    method = {"type": KD, "loss_weight": SHARE, "weight_schedule": {"warm_up": 4}}
    algorithm = MultiTeacherDistill(segmentor(), teachers, method, "each")
    losses = algorithm(*batch(), mode="loss")
    weights = [losses[f"distill.teacher{index}.weight.kd"] for index in (0, 1)]
    assert weights[0] != weights[1]
    assert set(algorithm.checkpoint_state()["distill_weights"]) == {"0.weights", "1.weights"}


def test_a_measurement_does_not_make_a_gpu_wait():
    rule = MODELS.build(SHARE)
    rule.begin(["loss_a", "loss_b"])
    taps = [torch.ones(3, requires_grad=True), torch.ones(2, 2, requires_grad=True)]
    own = taps[0].sum()  # the second is none of its
    losses = {"loss_a": 5 * taps[0].sum() + taps[1].sum(), "loss_b": taps[1].square().sum()}
    with DeviceFaults() as faults:
        rule.measure(losses, own, {"loss_a": taps, "loss_b": taps[1:]})
    assert faults.found == []
    assert rule.weights.tolist() == pytest.approx([0.2 * 3**0.5 / (25 * 3 + 4) ** 0.5, 1])
    with pytest.raises(UserError, match="loss_b is computed from nothing of the student that has a gradient"):
        rule.measure(losses, own, {"loss_a": taps, "loss_b": []})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight_schedule": {"warmup": 3}}, r"model.distiller.weight_schedule: .*'warmup'"),
        ({"weight_schedule": "linear"}, r"weight_schedule is 'linear', expected dict\(warm_up"),
        ({"weight_schedule": {"decay": "step"}}, "decay is 'step', expected 'linear', 'cosine' or None"),
        ({"weight_schedule": {"end": 9}}, "begin and end are those of a decay"),
        ({"weight_schedule": {"warm_up": -1}}, "expected iterations, from 0 on"),
        ({"weight_schedule": {"decay": "linear", "begin": 9, "end": 9}}, "begins at iteration 9, and its end is 9"),
        ({"loss_weight": {"type": "GradientShar"}}, "model.distiller.loss_weight: .*did you mean GradientShare"),
        ({"loss_weight": {"type": "GradientShare", "share": 0}}, "share is 0 and every 50: expected a number above 0"),
        ({"loss_weight": {"type": "KDLoss"}}, "loss_weight is a KDLoss, expected a number or GradientShare"),
    ],
)
def test_mistakes_are_told_with_their_place(options, message):
    with pytest.raises(UserError, match=message):
        distil({"type": KD, **options})


def test_where_a_share_makes_no_sense():
    with pytest.raises(UserError, match="share of the gradient of the student's own losses, which .* does not compute"):
        distil({"type": KD, "loss_weight": SHARE}, calculate_student_loss=False)
    algorithm = distil({"type": KD, "loss_weight": SHARE})
    with pytest.raises(UserError, match="cuda_graph is True, but model.distiller.loss_weight is a GradientShare"):
        graphed_step(algorithm, None, True, 2)
    assert graphed_step(algorithm, None, "auto", 2) is None
    late = distil({"type": KD, "weight_schedule": {"decay": "linear", "begin": 9}})
    with pytest.raises(UserError, match="begins at iteration 9, and its end is 5"):
        late.set_iteration(0, 5)
