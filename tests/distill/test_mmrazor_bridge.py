"""The bridge: every loss and connector of MMRazor's distillation half, and what each does with dense maps."""

import ast
import inspect
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from pairs import segmentor
from torch import Tensor, nn

from medseg_kd.distill import ConfigurableDistiller, build_distiller, mmrazor_bridge
from medseg_kd.errors import UserError
from medseg_kd.registry import HOOKS, MODELS

DOCS = Path(__file__).parents[2] / "docs/mmrazor.md"

# Options that a class needs, and those that make it small.
LOSSES = {
    **{name: {} for name in ("ABLoss", "ATLoss", "ActivationLoss", "AngleWiseRKD", "ChannelWiseDivergence")},
    **{name: {} for name in ("CrossEntropyLoss", "DISTLoss", "DKDLoss", "DistanceWiseRKD", "FBKDLoss", "FTLoss")},
    **{name: {} for name in ("InformationEntropyLoss", "KDSoftCELoss", "KLDivergence", "L1Loss", "L2Loss")},
    **{name: {} for name in ("MGDLoss", "OFDLoss", "OnehotLikeLoss", "PKDLoss")},
    "CRDLoss": {"dim_out": 4, "sample_n": 20, "neg_num": 3},
    "WSLD": {"num_classes": 4},
}
CONNECTORS = {
    "BYOTConnector": {"in_channel": 1, "out_channel": 2, "num_classes": 3},
    "CRDConnector": {"dim_in": 4, "dim_out": 5},
    "ConvModuleConnector": {"in_channel": 4, "out_channel": 6},
    "FBKDStudentConnector": {"in_channels": 4},
    "FBKDTeacherConnector": {"in_channels": 4},
    "MGDConnector": {"student_channels": 4, "teacher_channels": 4},
    "NormConnector": {"in_channels": 4, "norm_cfg": {"type": "BN"}},
    "OFDTeacherConnector": {},
    "Paraphraser": {"in_channel": 4, "out_channel": 3, "phase": "train"},
    "TorchFunctionalConnector": {"function_name": "interpolate", "func_args": {"scale_factor": 2}},
    "TorchNNConnector": {
        "module_name": "Conv2d",
        "module_args": {"in_channels": 4, "out_channels": 6, "kernel_size": 1},
    },
    "Translator": {"in_channel": 4, "out_channel": 3},
}
# Connectors that a loss is made for: the student's and the teacher's.
MADE_FOR = {
    "FBKDLoss": ("FBKDStudentConnector", "FBKDTeacherConnector"),
    "FTLoss": ("Translator", "Paraphraser"),
    "MGDLoss": ("MGDConnector", None),
    "OFDLoss": (None, "OFDTeacherConnector"),
}
OF_THE_TEACHER = {"preds_T", "t_feature", "t_input", "logits_T", "teacher", "feat_T", "t_feats"}
REFUSE_MAPS = {"CRDLoss": "list index", "DKDLoss": "Index tensor", "WSLD": "must match the size"}
OF_THE_TEACHER_ALONE = {"ActivationLoss", "InformationEntropyLoss", "OnehotLikeLoss"}
WRONG_ON_MAPS = {"DISTLoss", "KDSoftCELoss"}


def documented(heading: str) -> dict[str, bool]:
    """The table below a heading of the page: name to whether it takes dense maps."""
    section = DOCS.read_text(encoding="utf-8").split(f"## {heading}\n")[1].split("\n## ")[0]
    return {
        name: verdict == "yes"
        for name, verdict in re.findall(r"^\| `mmrazor\.(\w+)` \|(?:.*?\|)?? (yes|no) \|", section, re.M)
    }


def listed(package: str) -> set[str]:
    """``__all__`` of a package of the installed MMRazor, read from its file."""
    root = Path(find_spec("mmrazor").submodule_search_locations[0])
    tree = ast.parse((root / package / "__init__.py").read_text(encoding="utf-8"))
    return set(ast.literal_eval(next(node.value for node in tree.body if isinstance(node, ast.Assign))))


class Net(nn.Module):
    """Maps of 4 channels; its labels pass through a module, so that a recorder sees them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)
        self.label = nn.Identity()

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        self.label(label)
        return self.relu(self.norm(self.conv(x)))


def on_maps(name: str, memory_format: torch.memory_format = torch.contiguous_format) -> tuple[Tensor, Net]:
    """A loss of MMRazor through the distiller, on maps of three slices; and the student."""
    torch.manual_seed(0)
    connectors = dict(zip(("student", "teacher"), MADE_FOR.get(name, (None, None)), strict=True))
    arguments = inspect.signature(MODELS.get(f"mmrazor.{name}").forward).parameters.values()
    records = {}
    for key in (argument.name for argument in arguments if argument.default is argument.empty):
        if key in ("gt_labels", "data_samples"):
            records[key] = {"recorder": "label", "from_student": True}
        elif key != "self":
            whose = "teacher" if key in OF_THE_TEACHER else "student"
            record = {"recorder": "map", "from_student": whose == "student"}
            records[key] = {**record, "connector": whose} if connectors[whose] else record
    recorders = {key: {"type": "ModuleOutputs", "source": key} for key in ("norm", "label")}
    recorders["map"] = recorders.pop("norm")
    student, teacher = (Net().to(memory_format=memory_format) for _ in range(2))
    distiller = ConfigurableDistiller(
        student,
        teacher,
        student_recorders=recorders,
        teacher_recorders={"map": recorders["map"]},
        connectors={
            whose: {"type": f"mmrazor.{kind}", **CONNECTORS[kind]} for whose, kind in connectors.items() if kind
        },
        distill_losses={"loss": {"type": f"mmrazor.{name}", **LOSSES[name]}},
        loss_forward_mappings={"loss": records},
    )
    image = torch.rand(3, 1, 8, 6).to(memory_format=memory_format)
    label = [] if name == "CRDLoss" else torch.randint(4, (3, 8, 6))
    with distiller.teacher_recorders.recording(), torch.no_grad():
        teacher(image, label)
    with distiller.student_recorders.recording():
        student(image, label)
    return distiller.compute_distill_losses()["loss"], student


def test_no_loss_and_no_connector_is_forgotten():
    losses, connectors = listed("models/losses"), listed("models/architectures/connectors")
    assert (len(losses), len(connectors)) == (22, 12)
    assert losses == set(LOSSES) == set(documented("Losses"))
    assert connectors == set(CONNECTORS) == set(documented("Connectors"))
    assert sorted(mmrazor_bridge.names()) == sorted([*losses, *connectors])


@pytest.mark.parametrize("name", LOSSES)
def test_losses_on_dense_maps_do_what_the_page_says(name):
    takes_maps = documented("Losses")[name]
    assert takes_maps == (name not in {*REFUSE_MAPS, *OF_THE_TEACHER_ALONE, *WRONG_ON_MAPS})
    if name in REFUSE_MAPS:
        with pytest.raises(UserError, match=rf"distill_losses\.loss: MMRazor's {name} .*{REFUSE_MAPS[name]}"):
            on_maps(name)
        return
    loss, student = on_maps(name)
    assert loss.isfinite() and loss.ndim == 0
    if name in OF_THE_TEACHER_ALONE:
        assert not loss.requires_grad
        return
    loss.backward()
    assert student.conv.weight.grad.abs().max() > 0


@pytest.mark.parametrize("name", sorted(set(LOSSES) - {*REFUSE_MAPS}))
def test_losses_take_channels_last_maps(name):
    torch.testing.assert_close(on_maps(name, torch.channels_last)[0], on_maps(name)[0])


def test_a_message_tells_shapes_and_places():
    message = r"preds_S \(3, 4, 8, 6\) from the student's norm, .*gt_labels \(3, 8, 6\) from the student's label"
    with pytest.raises(UserError, match=message):
        on_maps("DKDLoss")


@pytest.mark.parametrize("name", CONNECTORS)
def test_connectors_on_dense_maps_do_what_the_page_says(name):
    connector = MODELS.build({"type": f"mmrazor.{name}", **CONNECTORS[name]})
    maps = torch.randn(2, 4, 8, 6)
    if name == "OFDTeacherConnector":
        connector.init_margin(torch.full((1, 4, 1, 1), -0.5))
    if not documented("Connectors")[name]:
        with pytest.raises(RuntimeError):
            connector(maps)
        return
    output = connector(maps)
    assert all(part.isfinite().all() for part in (output if isinstance(output, tuple) else (output,)))


def test_the_defects_that_the_page_names():
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5)
    pixels = [maps.permute(0, 2, 3, 1).reshape(-1, 3) for maps in (student, teacher)]

    def value(name: str, *arguments: Tensor, **options: object) -> float:
        return MODELS.build({"type": f"mmrazor.{name}", **options})(*arguments).item()

    per_pixel = value("KLDivergence", *pixels)
    assert value("KLDivergence", student, teacher) == pytest.approx(20 * per_pixel)
    assert value("KLDivergence", student, teacher, loss_weight=1 / 20) == pytest.approx(per_pixel)
    assert value("DISTLoss", student, teacher) != pytest.approx(value("DISTLoss", *pixels), rel=0.01)
    assert value("DISTLoss", student[:1], teacher[:1], inter_loss_weight=0) == 1
    over_width = -(teacher.softmax(-1) * student.log_softmax(-1)).sum(-1).mean()
    assert value("KDSoftCELoss", student, teacher) == pytest.approx(over_width.item())
    label = torch.tensor([0, 2])
    vectors = student[..., 0, 0], teacher[..., 0, 0], label
    assert value("DKDLoss", *vectors, reduction="mean") == value("DKDLoss", *vectors, reduction="sum")
    assert abs(value("AngleWiseRKD", student, teacher)) < 1e-6 and value("DistanceWiseRKD", student, teacher) == 0
    with pytest.raises(AssertionError):
        value("PKDLoss", student, torch.randn(2, 3, 4, 10))
    assert value("PKDLoss", student, torch.randn(2, 3, 8, 5)) > 0
    with pytest.raises(ValueError, match="batchmean"):
        value("L1Loss", student, teacher, reduction="batchmean")


def test_the_pages_example_builds():
    example: dict = {}
    exec(re.search(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.S)[1], example)
    model = MODELS.build(segmentor())
    distiller = build_distiller(example["distiller"], model, model)
    assert type(distiller.distill_losses["loss_pkd"]).__name__ == "PKDLoss"


def test_unknown_names_are_refused_with_the_nearest():
    with pytest.raises(UserError, match=r"mmrazor.KLDivergance is not among .*\n    mmrazor.KLDivergence\n"):
        MODELS.build({"type": "mmrazor.KLDivergance"})
    with pytest.raises(UserError, match=r"ModuleOutputs is a type of this project: leave the prefix out"):
        MODELS.get("mmrazor.ModuleOutputs")
    with pytest.raises(UserError, match=r"mmrazor.DMCPSubnetHook is not among"):
        HOOKS.get("mmrazor.DMCPSubnetHook")
    with pytest.raises(UserError, match=r"mmrazor.KLDivergance"):
        mmrazor_bridge.KLDivergance  # noqa: B018
    assert not hasattr(mmrazor_bridge, "kl_divergence")


def test_a_record_is_what_the_layer_returned():
    _, student = on_maps("ATLoss")
    recorders = {"map": {"type": "ModuleOutputs", "source": "norm"}}
    distiller = ConfigurableDistiller(student, student, student_recorders=recorders)
    with distiller.student_recorders.recording():
        output = student(torch.rand(2, 1, 8, 8), torch.zeros(2))
    recorded = distiller.student_recorders.recorders["map"].get()
    assert recorded.min() < 0 and torch.equal(recorded.relu(), output)


def in_fresh_python(code: str) -> str:
    """What a new process prints."""
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_mmrazor_is_loaded_when_a_type_of_it_is_asked_for_and_changes_nothing_else():
    code = """
import sys, mmcv, mmengine.registry
import medseg_kd.cli.train, medseg_kd.distill
from medseg_kd.registry import MODELS
loaded = lambda: any(name.split('.')[0] == 'mmrazor' for name in sys.modules)
MODELS.get('KLDivergence'), MODELS.get('CWDLoss')
assert not loaded()
version, modules, registered = mmcv.__version__, dict(sys.modules), dict(mmengine.registry.MODELS.module_dict)
MODELS.get('mmrazor.KLDivergence')
assert loaded() and mmcv.__version__ == version and mmengine.registry.MODELS.module_dict == registered
assert all(sys.modules[name] is module for name, module in modules.items())
from mmrazor.models import KLDivergence, ConfigurableDistiller
from mmrazor.models.architectures.connectors import ConvModuleConnector
assert MODELS.get('mmrazor.KLDivergence') is KLDivergence is mmengine.registry.MODELS.get('mmrazor.KLDivergence')
for statement in ('from mmrazor.models import ChannelMutator', 'from mmrazor import digit_version'):
    try:
        exec(statement)
    except ImportError as error:
        print(error)
"""
    printed = in_fresh_python(code)
    for name in ("mmrazor.models.ChannelMutator", "mmrazor.digit_version"):
        assert f"{name} is not loaded: medseg_kd.distill.mmrazor_bridge has loaded" in printed


def test_an_mmrazor_that_is_missing_or_broken_says_what_to_install():
    code = """
import sys
from medseg_kd.errors import UserError
from medseg_kd.registry import HOOKS, MODELS
for registry, name in ((HOOKS, 'mmrazor'), (MODELS, 'mmrazor.models.losses')):
    sys.modules[name] = None
    try:
        registry.get('mmrazor.ATLoss')
    except UserError as error:
        print(error)
    del sys.modules[name]
print(MODELS.get('mmrazor.ATLoss').__name__)
"""
    missing, broken, loaded = in_fresh_python(code).splitlines()
    assert missing == "mmrazor.ATLoss: MMRazor is not installed. pip install mmrazor==1.0.0"
    assert re.search(r"does not load \(ModuleNotFoundError: .*\)\. pip install mmrazor==1\.0\.0 gives", broken)
    assert loaded == "ATLoss"
