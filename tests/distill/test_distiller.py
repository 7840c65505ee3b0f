"""The explicit level: MMRazor's schema, checked when it is built."""

import re
from copy import deepcopy

import pytest
import torch
from pairs import Plain
from torch import nn

from medseg_kd.distill import ConfigurableDistiller, CWDLoss, Distiller, KDLoss, build_distiller
from medseg_kd.errors import UserError

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
    distiller = build_distiller(config, student, teacher)
    with distiller.teacher_recorders.recording(), torch.no_grad():
        teacher(IMAGE)
    with distiller.student_recorders.recording():
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
    "student_recorders.feat.type": (
        "ModuleOutput",
        "student_recorders.feat: .* 'ModuleOutput'; did you mean ModuleOut",
    ),
    "connectors.widen.type": ("ConvConector", "connectors.widen: .* 'ConvConector'; did you mean ConvConnector"),
    "connectors.widen.in_channels": (4, "connectors.widen: ConvConnector: .*'in_channels'. It takes: in_channel, out"),
    "distill_losses.loss_kd.type": ("KDLos", "distill_losses.loss_kd: .* 'KDLos'; did you mean KDLoss"),
    "distill_losses.loss_cwd": ("CWDLoss", "distill_losses.loss_cwd is 'CWDLoss', expected dict"),
    "teacher_recorders.into.source": (None, "teacher_recorders.into: ModuleInputs needs one source"),
}


@pytest.mark.parametrize("path", MISTAKES)
def test_mistakes_are_refused_when_built(path):
    value, message = MISTAKES[path]
    with pytest.raises(UserError, match=message):
        build_distiller(changed(path, value), Plain(), Plain(6))


def test_a_loss_that_would_not_be_summed_is_refused():
    config = deepcopy(CONFIG)
    for part in ("distill_losses", "loss_forward_mappings"):
        config[part]["l3_cwd"] = config[part].pop("loss_cwd")
    with pytest.raises(UserError, match="distill_losses.l3_cwd would be logged but not trained on: .*loss_l3_cwd"):
        build_distiller(config, Plain(), Plain(6))


def test_a_loss_without_mapping_is_refused_unless_a_method_computes_it_itself():
    class Silent(Distiller):
        pass

    class Own(Distiller):
        def compute_distill_losses(self, label=None):
            return {"loss_kd": self.distill_losses["loss_kd"](*torch.ones(2, 1, 2, 4, 4))}

    parts = {"distill_losses": {"loss_kd": {"type": "KDLoss"}}}
    with pytest.raises(UserError, match="distill_losses.loss_kd has no entry in loss_forward_mappings"):
        Silent(Plain(), Plain(6), **parts)
    assert Own(Plain(), Plain(6), **parts).compute_distill_losses()["loss_kd"] == 0


@pytest.mark.parametrize("kind", [None, 5])
def test_a_type_that_is_none(kind):
    config = changed("distill_losses.loss_kd", {"type": kind})
    with pytest.raises(UserError, match=f"distill_losses.loss_kd: there is no type {kind}"):
        build_distiller(config, Plain(), Plain(6))


@pytest.mark.parametrize(
    ("written", "meant"), [("secand", "second"), ("network.second", "second"), ("backbone.last", "last")]
)
def test_unknown_module_is_refused_when_built(written, meant):
    config = changed("student_recorders.feat.source", written)
    with pytest.raises(UserError, match=rf"student_recorders.feat: Plain has no module '{written}' .*\n    {meant}\n"):
        run(config)


def advised(message: str) -> dict:
    """The connectors that a message advises."""
    return eval(re.search(r"connectors=(dict\(.*\))", message)[1].rsplit(", with", 1)[0], {"torch": torch})


class Pooled(Plain):
    """A teacher whose features are half as high."""

    def forward(self, x):
        return super().forward(x)[:, :, ::2]


MISFITS = {
    "channels": ({"type": "CWDLoss"}, Plain, None, r"CWDLoss needs the same number of channels"),
    "channels of another's loss": ({"type": nn.MSELoss}, Plain, None, r"MSELoss says: The size of tensor a \(4\) must"),
    "size": ({"type": "HCLLoss"}, Pooled, None, r"HCLLoss needs the same number of channels"),
    "wrong input of a connector": (
        {"type": "CWDLoss"},
        Plain,
        (3, 6),
        r"connector 'it' does not take .*\(2, 4, 8, 8\)",
    ),
    "wrong output of a connector": ({"type": "CWDLoss"}, Plain, (4, 5), r"CWDLoss needs the same number of channels"),
}


@pytest.mark.parametrize("name", MISFITS)
def test_shapes_that_differ_name_the_layers_and_the_connector_that_fits(name):
    loss, kind, channels, reason = MISFITS[name]
    student, teacher = Plain().eval(), torch.nn.ModuleDict({"net": kind(6).eval()})
    arguments = ("input", "target") if loss["type"] is nn.MSELoss else ("student", "teacher")
    config = {
        "student_recorders": {"feat": {"type": "ModuleOutputs", "source": "second"}},
        "teacher_recorders": {"feat": {"type": "ModuleOutputs", "source": "net"}},
        "connectors": {
            "it": dict(zip(("type", "in_channel", "out_channel"), ("ConvConnector", *channels), strict=True))
        }
        if channels
        else {},
        "distill_losses": {"loss": loss},
        "loss_forward_mappings": {
            "loss": {
                arguments[0]: {"recorder": "feat", "from_student": True, "connector": "it" if channels else None},
                arguments[1]: {"recorder": "feat", "from_student": False},
            }
        },
    }

    def loss_of(config):
        distiller = ConfigurableDistiller(student, teacher, **config)
        with distiller.teacher_recorders.recording(), distiller.student_recorders.recording(), torch.no_grad():
            student(IMAGE), teacher["net"](IMAGE)
        return distiller.compute_distill_losses()["loss"]

    height = 4 if kind is Pooled else 8
    with pytest.raises(UserError, match=reason) as refused:
        loss_of(config)
    message = str(refused.value)
    assert "distill_losses.loss:" in message
    assert "from the student's second" in message and f"(2, 6, {height}, 8) from the teacher's net" in message
    config["connectors"] = advised(message)
    (connector,) = config["connectors"]
    config["loss_forward_mappings"]["loss"][arguments[0]]["connector"] = connector
    assert loss_of(config) > 0


def test_a_tuple_is_refused_with_data_idx():
    config = changed("loss_forward_mappings.loss_kd.teacher.data_idx", None)
    _, _, distiller = run(config)
    message = (
        r"teacher a tuple of \(2, 4, 8, 8\) from the teacher's last.*data_idx in loss_forward_mappings.loss_kd.teacher"
    )
    with pytest.raises(UserError, match=message):
        distiller.compute_distill_losses()


def test_an_error_that_has_nothing_to_do_with_shapes_is_left_alone():
    _, _, distiller = run(deepcopy(CONFIG))
    distiller.distill_losses["loss_cwd"].compute = lambda *maps: [][1]
    with pytest.raises(IndexError):
        distiller.compute_distill_losses()
