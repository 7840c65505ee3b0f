"""The short method types wire any pair from what the models say of themselves."""

import pytest
import torch
from pairs import Plain, batch, plain, segmentor

from medseg_kd.distill import CWD, SingleTeacherDistill
from medseg_kd.errors import UserError
from medseg_kd.models import FCN, UNet
from medseg_kd.registry import MODELS

TERMS = {
    "KD": ["distill.loss_kd"],
    "DKD": ["distill.loss_dkd"],
    "DIST": ["distill.loss_dist"],
    "CWD": ["distill.loss_cwd"],
    "AT": [f"distill.loss_at_stage{stage}" for stage in range(4)],
    "ReviewKD": ["distill.loss_reviewkd"],
}
CONNECTORS = {"AT": 0, "ReviewKD": 4}


def distil(method: dict, student: dict, teacher: dict) -> SingleTeacherDistill:
    torch.manual_seed(0)
    return SingleTeacherDistill(student, MODELS.build(teacher), method)


@pytest.mark.parametrize("method", TERMS)
@pytest.mark.parametrize(("student", "teacher"), [(UNet, UNet), (FCN, UNet), (UNet, FCN)])
def test_a_step_of_every_method(method, student, teacher):
    algorithm = distil({"type": method}, segmentor(student), segmentor(teacher, width=6))
    losses = algorithm(*batch(), mode="loss")
    assert list(losses) == ["loss_ce", "aux1.loss_ce", *TERMS[method]]
    assert len(algorithm.distiller.connectors) == CONNECTORS.get(method, 0)
    distilled = [losses[name] for name in TERMS[method]]
    assert all(value.isfinite() and value > 0 for value in distilled)
    sum(distilled).backward()
    backbone = algorithm.student.network.backbone
    for module in (backbone.layer1, backbone.layer4, algorithm.distiller.connectors):
        assert all(parameter.grad.isfinite().all() for parameter in module.parameters())
    assert all(parameter.grad is None for parameter in algorithm.teacher.parameters())


def test_logits_are_compared_at_native_resolution():
    algorithm = distil({"type": "CWD"}, segmentor(UNet), segmentor(FCN, width=6))
    algorithm.distiller.clear = lambda: None
    algorithm(*batch(), mode="loss")
    student, teacher = (
        recorders.recorders["logits"].get()
        for recorders in (algorithm.distiller.student_recorders, algorithm.distiller.teacher_recorders)
    )
    assert student.shape == (2, 4, 8, 8) and teacher.shape == (2, 4, 4, 4)


def test_cwd_on_a_stage_widens_the_student():
    method = {"type": CWD, "stage": -1, "tau": 1, "loss_weight": 50}
    algorithm = distil(method, segmentor(UNet), segmentor(UNet, width=6))
    connector = algorithm.distiller.connectors["stage"]
    assert connector.conv.weight.shape == (48, 32, 1, 1)
    losses = algorithm(*batch(), mode="loss")
    losses["distill.loss_cwd"].backward()
    assert connector.conv.weight.grad.abs().sum() > 0
    assert algorithm.student.network.head.conv_seg.weight.grad is None
    with pytest.raises(UserError, match="stage is 4, but student and teacher share 4 stages"):
        distil({"type": CWD, "stage": 4}, segmentor(UNet), segmentor(UNet))


def test_stages_are_paired_from_the_deepest():
    algorithm = distil({"type": "AT"}, segmentor(UNet), segmentor(UNet))
    short = algorithm.teacher
    short.network.feature_info = short.network.feature_info[1:]
    algorithm.distiller.attach(algorithm.student, short)
    recorders = [r.recorders for r in (algorithm.distiller.student_recorders, algorithm.distiller.teacher_recorders)]
    stages = [[recorder.source for recorder in group.values()] for group in recorders]
    assert stages[0] == stages[1] == [f"network.backbone.layer{depth}" for depth in (2, 3, 4)]


def test_a_network_without_feature_info():
    algorithm = distil({"type": "KD"}, plain(), segmentor(UNet))
    assert algorithm(*batch(), mode="loss")["distill.loss_kd"] > 0
    with pytest.raises(UserError, match=f"the student's network {Plain.__name__} has no feature_info"):
        distil({"type": "AT"}, plain(), segmentor(UNet))


def test_options_reach_the_loss():
    method = MODELS.build({"type": "DKD", "tau": 2, "alpha": 3, "beta": 5, "loss_weight": 7, "ignore_index": 9})
    SingleTeacherDistill(plain(), plain(), method)
    loss = method.distill_losses["loss_dkd"]
    assert (loss.tau, loss.alpha, loss.beta, loss.loss_weight, loss.ignore_index) == (2, 3, 5, 7, 9)
