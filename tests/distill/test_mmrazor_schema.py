"""MMRazor's schema: through this project's classes and through MMRazor's own, and as its users' configs write it."""

from copy import deepcopy

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from pairs import batch, segmentor
from torch import Tensor, nn

from medseg_kd.distill import SingleTeacherDistill
from medseg_kd.errors import UserError
from medseg_kd.registry import MODELS


def tap(source: str) -> dict:
    return {"type": "ModuleOutputs", "source": f"network.{source}"}


def mapping(student: str, teacher: str, recorder: str, ours: str | None = None, theirs: str | None = None) -> dict:
    """One recorder of both, each through its connector."""
    records = ((student, True, ours), (teacher, False, theirs))
    return {
        key: {"recorder": recorder, "from_student": whose, **({"connector": connector} if connector else {})}
        for key, whose, connector in records
    }


def mmrazor(name: str, **options: object) -> dict:
    return {"type": f"mmrazor.{name}", **options}


# In MMRazor's schema: KD, CWD and CE on logits; AT, PKD, L2 and FBKD on the last stage; MGD, FT and AB on an inner one.
RECORDERS = {"logits": tap("head.conv_seg"), "deep": tap("backbone.layer4"), "inner": tap("backbone.layer2")}
SCHEMA = {
    "student_recorders": RECORDERS,
    "teacher_recorders": RECORDERS,
    "connectors": {
        "widen": mmrazor("ConvModuleConnector", in_channel=32, out_channel=64, norm_cfg={"type": "BN"}),
        "fbkd_student": [
            mmrazor("ConvModuleConnector", in_channel=32, out_channel=64, act_cfg=None),
            mmrazor("FBKDStudentConnector", in_channels=64),
        ],
        "fbkd_teacher": mmrazor("FBKDTeacherConnector", in_channels=64),
        "mgd": mmrazor("MGDConnector", student_channels=8, teacher_channels=16),
        "translator": mmrazor("Translator", in_channel=8, out_channel=6),
        "paraphraser": mmrazor("Paraphraser", in_channel=16, out_channel=6, phase="train"),
        "project": mmrazor(
            "TorchNNConnector",
            module_name="Conv2d",
            module_args={"in_channels": 8, "out_channels": 16, "kernel_size": 1},
        ),
    },
    "distill_losses": {
        "loss_kl": mmrazor("KLDivergence", tau=4, loss_weight=2),
        "loss_cwd": mmrazor("ChannelWiseDivergence", tau=2, loss_weight=3),
        "loss_ce": mmrazor("CrossEntropyLoss"),
        "loss_at": mmrazor("ATLoss", loss_weight=1000),
        "loss_pkd": mmrazor("PKDLoss"),
        "loss_l2": mmrazor("L2Loss"),
        "loss_fbkd": mmrazor("FBKDLoss"),
        "loss_mgd": mmrazor("MGDLoss", alpha_mgd=0.01),
        "loss_ft": mmrazor("FTLoss"),
        "loss_ab": mmrazor("ABLoss"),
    },
    "loss_forward_mappings": {
        "loss_kl": mapping("preds_S", "preds_T", "logits"),
        "loss_cwd": mapping("preds_S", "preds_T", "logits"),
        "loss_ce": mapping("preds_S", "preds_T", "logits"),
        "loss_at": mapping("s_feature", "t_feature", "deep"),
        "loss_pkd": mapping("preds_S", "preds_T", "deep", "widen"),
        "loss_l2": mapping("s_feature", "t_feature", "deep", "widen"),
        "loss_fbkd": mapping("s_input", "t_input", "deep", "fbkd_student", "fbkd_teacher"),
        "loss_mgd": mapping("preds_S", "preds_T", "inner", "mgd"),
        "loss_ft": mapping("s_feature", "t_feature", "inner", "translator", "paraphraser"),
        "loss_ab": mapping("s_feature", "t_feature", "inner", "project"),
    },
}


def both_algorithms(ours: str, theirs: str, schema: dict) -> tuple[nn.Module, nn.Module]:
    """One config through this project's classes and through MMRazor's own, with the same weights."""
    torch.manual_seed(0)
    student, teacher = (MODELS.build(segmentor(width=width, dropout_ratio=0.0)) for width in (4, 8))
    for norm in (module for module in teacher.modules() if isinstance(module, nn.BatchNorm2d)):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias)
        nn.init.uniform_(norm.running_var, 0.5, 1.5)
    algorithms = []
    for algorithm, distiller in ((SingleTeacherDistill, "ConfigurableDistiller"), (MODELS.get(theirs), ours)):
        parts = {"architecture": deepcopy(student), "teacher": deepcopy(teacher)}
        algorithms.append(algorithm(**parts, distiller={"type": distiller, **deepcopy(schema)}))
    assert type(algorithms[1].distiller).__module__.startswith("mmrazor.")
    algorithms[1].distiller.connectors.load_state_dict(algorithms[0].distiller.connectors.state_dict())
    return algorithms[0].train(), algorithms[1]


def losses_and_gradients(algorithm: nn.Module) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    torch.manual_seed(1)
    losses = algorithm(*batch((64, 64), n=3), mode="loss")
    sum(losses.values()).backward()
    trained = {**dict(algorithm.architecture.named_parameters()), **dict(algorithm.distiller.named_parameters())}
    gradients = {key: parameter.grad for key, parameter in trained.items() if parameter.grad is not None}
    return {key.removeprefix("student."): value.detach() for key, value in losses.items()}, gradients


def test_losses_are_those_of_mmrazors_own_classes():
    ours, theirs = both_algorithms("mmrazor.ConfigurableDistiller", "mmrazor.SingleTeacherDistill", SCHEMA)
    losses, gradients = losses_and_gradients(ours)
    theirs.train()
    expected, expected_gradients = losses_and_gradients(theirs)
    assert len(losses) == 12 and losses.keys() == expected.keys()
    for name, value in expected.items():
        assert value > 1e-4
        torch.testing.assert_close(losses[name], value, rtol=1e-6, atol=1e-6)
    assert gradients.keys() == expected_gradients.keys()
    torch.testing.assert_close(gradients, expected_gradients, rtol=1e-4, atol=1e-6)


def test_overhaul_takes_its_margin_from_the_trained_teacher():
    norm = tap("backbone.layer4.0.downsample.1")
    schema = {
        "student_recorders": {"norm": norm},
        "teacher_recorders": {"norm": norm},
        "connectors": {"widen": SCHEMA["connectors"]["widen"], "margin": mmrazor("OFDTeacherConnector")},
        "distill_losses": {"loss_ofd": mmrazor("OFDLoss")},
        "loss_forward_mappings": {"loss_ofd": mapping("s_feature", "t_feature", "norm", "widen", "margin")},
    }
    ours, theirs = both_algorithms("mmrazor.OFDDistiller", "mmrazor.OverhaulFeatureDistillation", schema)
    trained = deepcopy(theirs.teacher.state_dict())
    nn.init.zeros_(ours.teacher.network.backbone.layer4[0].downsample[1].bias)
    late = SingleTeacherDistill(ours.student, ours.teacher, {"type": "ConfigurableDistiller", **schema})
    late.distiller.connectors.load_state_dict(ours.distiller.connectors.state_dict())
    late.load_teachers = lambda: late.teacher.load_state_dict(trained)
    theirs.train()
    expected = losses_and_gradients(theirs)[0]["distill.loss_ofd"]
    assert expected > 0
    torch.testing.assert_close(losses_and_gradients(late)[0]["distill.loss_ofd"], expected, rtol=1e-6, atol=1e-6)
    schema["teacher_recorders"] = {"norm": tap("backbone.layer4")}
    with pytest.raises(UserError, match=r"OFDTeacherConnector needs .* network.backbone.layer4, a ResLayer"):
        both_algorithms("mmrazor.OFDDistiller", "mmrazor.OverhaulFeatureDistillation", schema)


# Text configs as MMRazor's documentation writes them: CWD on logits; AT with a connector and two recorders.
TEXT = """
def segmentor(width):
    backbone = dict(
        type='mmseg.ResNetV1c', depth=18, in_channels=1, base_channels=width, stem_channels=4,
        dilations=(1, 1, 2, 4), strides=(1, 2, 1, 1), contract_dilation=True)
    return dict(
        type='Segmentor', num_classes=4, output_weights=(1, 0.4), network=dict(type='UNet', backbone=backbone),
        losses=[dict(type='mmseg.CrossEntropyLoss')])

model = dict(
    type='SingleTeacherDistill',
    architecture=segmentor(4),
    teacher=segmentor(8),
    distiller=dict(
        type='ConfigurableDistiller',
        student_recorders=dict(
            logits=dict(type='ModuleOutputs', source='network.head.conv_seg'),
            bb_s4=dict(type='ModuleOutputs', source='network.backbone.layer4.1.relu')),
        teacher_recorders=dict(
            logits=dict(type='ModuleOutputs', source='network.head.conv_seg'),
            bb_s4=dict(type='ModuleOutputs', source='network.backbone.layer4.1.relu')),
        connectors=dict(
            loss_s4_sfeat=dict(
                type='mmrazor.ConvModuleConnector', in_channel=32, out_channel=64, norm_cfg=dict(type='BN'))),
        distill_losses=dict(
            loss_cwd=dict(type='mmrazor.ChannelWiseDivergence', tau=1, loss_weight=5),
            loss_s4=dict(type=ATLOSS, loss_weight=25000.0)),
        loss_forward_mappings=dict(
            loss_cwd=dict(
                preds_S=dict(from_student=True, recorder='logits'),
                preds_T=dict(from_student=False, recorder='logits')),
            loss_s4=dict(
                s_feature=dict(from_student=True, recorder='bb_s4', record_idx=1, connector='loss_s4_sfeat'),
                t_feature=dict(from_student=False, recorder='bb_s4', record_idx=1)))))
del segmentor
"""
PURE = "from medseg_kd.distill.mmrazor_bridge import ATLoss\n" + TEXT.replace("ATLOSS", "ATLoss")


@pytest.mark.parametrize("text", [TEXT.replace("ATLOSS", "'mmrazor.ATLoss'"), PURE], ids=["text", "pure"])
def test_configs_of_mmrazors_kind_take_a_step(tmp_path, text):
    written, dumped = tmp_path / "written.py", tmp_path / "dumped.py"
    written.write_text(text)
    Config.fromfile(written).dump(dumped)
    for path in (written, dumped):
        algorithm = MODELS.build(Config.fromfile(path).model)
        optimizer = OptimWrapper(torch.optim.SGD(algorithm.parameters(), lr=0.1))
        connector = algorithm.distiller.connectors["loss_s4_sfeat"].conv_module.conv.weight
        before = connector.clone()
        images, labels = batch()
        log = algorithm.train_step({"inputs": images, "labels": labels}, optimizer)
        assert {"distill.loss_cwd", "distill.loss_s4"} < set(log)
        assert log["loss"].isfinite() and not torch.equal(connector, before)
