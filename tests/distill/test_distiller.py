"""The explicit level: MMRazor's schema, checked when it is built."""

from copy import deepcopy

import pytest
import torch
from pairs import Plain
from torch import nn

from medseg_kd.distill import ConfigurableDistiller, CWDLoss, KDLoss
from medseg_kd.errors import UserError
from medseg_kd.registry import MODELS

IMAGE = torch.rand(2, 1, 8, 8)
CONFIG = {
    "type": "ConfigurableDistiller",
    "student_recorders": {"feat": {"type": "ModuleOutputs", "source": "second"}},
    "teacher_recorders": {
        "feat": {"type": "ModuleOutputs", "source": "last"},
        "into": {"type": "ModuleInputs", "source": "last"},
    },
    "connectors": {
        "widen": {"type": "ConvConnector", "in_channel": 4, "out_channel": 6},
        "chain": [
            {"type": "ConvConnector", "in_channel": 4, "out_channel": 5},
            {"type": "ConvConnector", "in_channel": 5, "out_channel": 4},
        ],
    },
    "distill_losses": {
        "loss_cwd": {"type": "CWDLoss", "tau": 1, "loss_weight": 5},
        "loss_kd": {"type": "KDLoss"},
    },
    "loss_forward_mappings": {
        "loss_cwd": {
            "student": {"recorder": "feat", "from_student": True, "record_idx": 1, "connector": "widen"},
            "teacher": {"recorder": "feat", "from_student": False},
        },
        "loss_kd": {
            "student": {"recorder": "feat", "from_student": True, "connector": "chain"},
            "teacher": {"recorder": "into", "from_student": False, "data_idx": 0},
        },
    },
}


def changed(path: str, value: object) -> dict:
    """CONFIG with one entry, named by a dotted path, set to ``value`` or, for None, left out."""
    config = deepcopy(CONFIG)
    *parents, last = path.split(".")
    entry = config
    for key in parents:
        entry = entry[key]
    if value is None:
        del entry[last]
    else:
        entry[last] = value
    return config


def run(config: dict) -> tuple[Plain, Plain, ConfigurableDistiller]:
    """Record one forward pass of a student with 4 and a teacher with 6 classes."""
    student, teacher = Plain().eval(), Plain(6).eval()
    distiller = MODELS.build(config)
    distiller.attach(student, teacher)
    with distiller.teacher_recorders, torch.no_grad():
        teacher(IMAGE)
    with distiller.student_recorders:
        student(IMAGE)
    return student, teacher, distiller


def test_losses_get_the_records_that_the_mappings_name():
    student, teacher, distiller = run(deepcopy(CONFIG))
    label = torch.randint(4, (2, 8, 8))
    label[:, :2] = 255
    losses = distiller.compute_distill_losses(label)
    once = student.second(student.first(IMAGE))
    into = teacher.second(teacher.second(teacher.first(IMAGE)))
    widened = distiller.connectors["widen"](student.second(once))
    assert torch.equal(losses["loss_cwd"], CWDLoss(tau=1, loss_weight=5)(widened, teacher.last(into), label))
    assert torch.equal(losses["loss_kd"], KDLoss()(distiller.connectors["chain"](once), into, label))
    distiller.clear()
    with pytest.raises(UserError, match="holds 0 records"):
        distiller.compute_distill_losses(label)


def test_losses_of_others_need_no_label():
    config = changed("distill_losses.loss_kd", {"type": nn.MSELoss})
    mapping = config["loss_forward_mappings"]["loss_kd"]
    mapping["input"], mapping["target"] = mapping.pop("student"), mapping.pop("teacher")
    _, _, distiller = run(config)
    assert distiller.compute_distill_losses(torch.zeros(2, 8, 8))["loss_kd"] > 0


MISTAKES = {
    "distill_losses.loss_kd": (None, r"loss_forward_mappings: 'loss_kd' is not among distill_losses \(loss_cwd\)"),
    "loss_forward_mappings.loss_kd": (None, "distill_losses.loss_kd has no entry in loss_forward_mappings"),
    "loss_forward_mappings.loss_kd.student.recorder": ("nofeat", r"loss_kd.student: 'nofeat' is not among .*\(feat\)"),
    "loss_forward_mappings.loss_kd.teacher.recorder": ("nofeat", r"teacher_recorders \(feat, into\)"),
    "loss_forward_mappings.loss_kd.student.connector": ("wide", r"'wide' is not among connectors \(widen, chain\)"),
    "loss_forward_mappings.loss_kd.student.from_student": (None, "also needs from_student"),
    "loss_forward_mappings.loss_kd.teacher.from_student": ("no", "from_student is 'no', expected True or False"),
    "loss_forward_mappings.loss_kd.teacher.record_index": (1, "'record_index' is not among its keys"),
    "loss_forward_mappings.loss_kd.preds_S": ({}, "'preds_S' is not among the arguments of KDLoss"),
    "loss_forward_mappings.loss_kd.teacher": (None, "loss_kd: KDLoss also needs teacher"),
}


@pytest.mark.parametrize("path", MISTAKES)
def test_mistakes_are_refused_when_built(path):
    value, message = MISTAKES[path]
    with pytest.raises(UserError, match=message):
        MODELS.build(changed(path, value))


def test_unknown_module_is_refused_when_attached():
    config = changed("student_recorders.feat.source", "secand")
    with pytest.raises(UserError, match=r"no module 'secand' .*\n    second"):
        run(config)


def test_shapes_that_differ_name_the_layers_and_the_connector():
    config = changed("loss_forward_mappings.loss_cwd.student.connector", None)
    _, _, distiller = run(config)
    message = (
        r"loss_cwd \(student from the student's second, teacher from the teacher's last\).*"
        r"\(2, 4, 8, 8\).*\(2, 6, 8, 8\).*in_channel=4, out_channel=6"
    )
    with pytest.raises(UserError, match=message):
        distiller.compute_distill_losses()
