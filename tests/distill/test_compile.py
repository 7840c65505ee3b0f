"""A whole distillation step compiles into one graph, and gives what it gives otherwise."""

from copy import deepcopy

import pytest
import torch
from pairs import Plain, batch, plain, segmentor
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounter

from medseg_kd.distill import (
    AT,
    BPKD,
    CIRKD,
    CWD,
    DIST,
    DKD,
    IFVD,
    KD,
    LSKD,
    MGD,
    AttnFD,
    MultiTeacherDistill,
    ReviewKD,
    SingleTeacherDistill,
)
from medseg_kd.distill.algorithm import Distillation
from medseg_kd.models import FCN, UNet
from medseg_kd.registry import MODELS

METHODS = {
    "KD": {"type": KD},
    "CWD": {"type": CWD},
    "CWD on a stage": {"type": CWD, "stage": -1},
    "AT": {"type": AT},
    "ReviewKD": {"type": ReviewKD, "mid_channel": 8},
    "DKD": {"type": DKD},
    "DIST": {"type": DIST},
}
FIRST = ("backbone.layer1.0.conv1", "first")
"""Where a gradient arrives in the end."""


class Staged(Plain):
    """A small network that tells its stages: quick to trace."""

    feature_info = [{"module": name, "channels": 4, "reduction": 1} for name in ("first", "second")]


@pytest.fixture(autouse=True)
def _forget_compiled_code():
    torch._dynamo.reset()


def single(method: dict, **options) -> Distillation:
    torch.manual_seed(0)
    student, teacher = segmentor(UNet, dropout_ratio=0.0), MODELS.build(segmentor(FCN, width=6))
    return SingleTeacherDistill(student, teacher, method, **options)


def small(method: dict) -> Distillation:
    torch.manual_seed(0)
    student, teacher = ({**plain(), "network": Staged()} for _ in range(2))
    return SingleTeacherDistill(student, MODELS.build(teacher), method)


def several(combine: str) -> Distillation:
    torch.manual_seed(0)
    teachers = [{"model": MODELS.build(segmentor(kind, width=6))} for kind in (UNet, FCN)]
    return MultiTeacherDistill(segmentor(UNet, dropout_ratio=0.0), teachers, {"type": KD}, combine)


def step(algorithm: Distillation, forward) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Losses and gradients of a batch."""
    algorithm.zero_grad()
    torch.manual_seed(0)  # MGD draws a mask
    losses = forward(*batch(), mode="loss")
    sum(losses.values()).backward()
    gradients = {name: p.grad for name, p in algorithm.named_parameters() if p.grad is not None}
    return {name: value.detach() for name, value in losses.items()}, gradients


def assert_compiles(algorithm: Distillation) -> None:
    """In one graph, once for all steps, with a prediction between them, and to the same losses and gradients."""
    algorithm.load_teachers()
    plainly, counter = deepcopy(algorithm), CompileCounter()
    compiled = torch.compile(algorithm.forward, backend=counter, fullgraph=True)
    for iteration in range(2):
        for each in (plainly, algorithm):
            each.set_iteration(iteration, 4)
        expected = step(plainly, plainly)
        torch.testing.assert_close(step(algorithm, compiled), expected, rtol=1e-6, atol=1e-6)
        assert expected[1].keys() & {f"architecture.network.{name}.weight" for name in FIRST}
        algorithm(batch()[0])
        for recorders in (algorithm.distiller.student_recorders, algorithm.distiller.teacher_recorders):
            assert recorders.recorders and not any(recorder.records for recorder in recorders.recorders.values())
    assert counter.frame_count == 1


@pytest.mark.parametrize("method", METHODS)
def test_a_step_is_one_graph(method):
    assert_compiles(single(METHODS[method]))


@pytest.mark.parametrize("method", [LSKD, MGD, CIRKD, AttnFD, IFVD, BPKD])
def test_a_step_of_small_networks_is_one_graph(method):
    assert_compiles(small({"type": method}))


def test_a_weight_that_changes_is_in_the_graph():
    algorithm = small({"type": KD, "weight_schedule": {"warm_up": 4}})
    assert_compiles(algorithm)
    assert algorithm.distiller.weighting.factor == 0.5


@pytest.mark.parametrize("combine", ["mean", "each"])
def test_a_step_with_several_teachers_is_one_graph(combine):
    assert_compiles(several(combine))


def test_a_step_without_the_students_own_losses_is_one_graph():
    assert_compiles(single(METHODS["AT"], calculate_student_loss=False))


@pytest.mark.parametrize("start", [True, False])
def test_what_replaces_a_module_is_recorded_when_compiled(start):
    """In one graph where training starts as it should, else in pieces."""
    algorithm = single(METHODS["CWD on a stage"])
    backbone = algorithm.student.network.backbone
    backbone.layer4 = nn.Sequential(*deepcopy(backbone.layer4))
    if start:
        algorithm.init_weights()
    plainly, counter = deepcopy(algorithm), CompileCounter()
    compiled = torch.compile(algorithm.forward, backend=counter, fullgraph=start)
    for _ in range(2):
        torch.testing.assert_close(step(algorithm, compiled), step(plainly, plainly), rtol=1e-6, atol=1e-6)
    assert (counter.frame_count == 1) is start
