"""Several teachers: the mean of their distributions, or one loss for each."""

import gc
import weakref
from pathlib import Path

import pytest
import torch
from pairs import batch, plain, segmentor
from torch import Tensor
from torch.nn.functional import interpolate

from medseg_kd.distill import AT, CWD, DIST, DKD, KD, MultiTeacherDistill, ReviewKD, SingleTeacherDistill
from medseg_kd.errors import UserError
from medseg_kd.models import FCN, UNet
from medseg_kd.registry import MODELS

KINDS = {
    "kd": {"type": KD, "tau": 3.0},
    "dkd": {"type": DKD, "tau": 2.0},
    "dist": {"type": DIST, "tau": 2.0},
    "cwd": {"type": CWD, "tau": 4.0},
}
WEIGHTS = (1.0, 3.0)


def teachers(*kinds: type, seed: int = 0) -> list:
    """Built teachers with sharp logits, as trained ones have."""
    torch.manual_seed(seed)
    models = [MODELS.build(segmentor(kind, width=6)) for kind in kinds]
    for model in models:
        torch.nn.init.normal_(model.network.head.conv_seg.weight, std=3)
    return models


def distil(distiller: dict | None, models: list, **options) -> MultiTeacherDistill:
    entries = [{"model": model, "weight": weight} for model, weight in zip(models, WEIGHTS, strict=False)]
    torch.manual_seed(9)
    return MultiTeacherDistill(MODELS.build(segmentor()), entries, distiller, **options).eval()


def losses(algorithm: torch.nn.Module) -> dict[str, Tensor]:
    """Distillation losses in float64 and without dropout."""
    algorithm.double()
    images, labels = batch()
    return {k: v for k, v in algorithm(images.double(), labels, mode="loss").items() if k.startswith("distill")}


@pytest.mark.parametrize("kind", KINDS)
def test_the_target_is_the_mean_of_the_distributions_of_the_loss(kind):
    """Two teachers, of unequal resolution, against the distributions worked out here."""
    models = teachers(UNet, FCN)
    algorithm = distil(KINDS[kind], models)
    (value,) = losses(algorithm).values()
    images, labels = batch()
    images = images.double()
    with torch.no_grad():
        student = algorithm.student.network(images)
        logits = [interpolate(m.network(images), size=(8, 8), mode="bilinear", align_corners=False) for m in models]
    tau = KINDS[kind]["tau"]
    dims = (2, 3) if kind == "cwd" else (1,)
    exponents = [(z / tau).exp() for z in logits]
    mean = sum(w / 4 * e / e.sum(dims, keepdim=True) for w, e in zip(WEIGHTS, exponents, strict=True))
    loss = next(iter(algorithm.distiller.distill_losses.values()))
    assert value.item() == pytest.approx(loss(student, tau * mean.log(), labels).item(), rel=1e-6)
    if kind == "kd":
        log_s = (student / tau).log_softmax(1)
        by_hand = tau**2 * (mean * (mean.log() - log_s)).sum(1).mean()
        assert value.item() == pytest.approx(by_hand.item(), rel=1e-6)


@pytest.mark.parametrize("combine", ["mean", "each"])
@pytest.mark.parametrize("kind", KINDS)
def test_one_teacher_is_what_it_is_alone(kind, combine):
    """Also where the loss resizes the teacher's logits, of half the student's resolution."""
    (teacher,) = teachers(FCN)
    torch.manual_seed(9)
    alone = SingleTeacherDistill(MODELS.build(segmentor()), teacher, KINDS[kind]).eval()
    (expected,) = losses(alone).values()
    (value,) = losses(distil(KINDS[kind], [teacher], combine=combine)).values()
    assert value.item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize("method", [KD, AT, {"type": ReviewKD, "mid_channel": 8}, {"type": "AttnFD"}])
def test_each_teacher_has_a_weighted_loss_of_its_own(method):
    method = method if isinstance(method, dict) else {"type": method}
    models = teachers(UNet, FCN)
    algorithm = distil(method, models, combine="each")
    found = losses(algorithm)
    names = {name.split(".", 2)[2] for name in found}
    assert set(found) == {f"distill.teacher{i}.{name}" for i in (0, 1) for name in names}
    for index, (model, weight) in enumerate(zip(models, WEIGHTS, strict=True)):
        torch.manual_seed(9)
        alone = SingleTeacherDistill(MODELS.build(segmentor()), model, method).eval()
        alone.distiller.connectors.load_state_dict(algorithm.distiller.parts[index].connectors.state_dict())
        for name, value in losses(alone).items():
            name = name.removeprefix("distill.")
            assert found[f"distill.teacher{index}.{name}"].item() == pytest.approx(weight * value.item(), rel=1e-6)


def test_teachers_may_have_methods_of_their_own():
    models = teachers(UNet, FCN)
    entries = [{"model": models[0], "distiller": {"type": AT}}, {"model": models[1]}]
    algorithm = MultiTeacherDistill(segmentor(), entries, {"type": KD}, combine="each")
    names = set(algorithm(*batch(), mode="loss")) - {"loss_ce", "aux1.loss_ce"}
    assert names == {f"distill.teacher0.loss_at_stage{i}" for i in range(4)} | {"distill.teacher1.loss_kd"}


def test_the_explicit_level_taps_the_mean_and_each_teacher():
    logits = {
        "student": {"recorder": "out", "from_student": True},
        "teacher": {"recorder": "mean", "from_student": False},
    }
    stage = {
        "student": {"recorder": "deep", "from_student": True},
        "teacher": {"recorder": "second", "from_student": False},
    }
    layer = "network.backbone.layer4"
    distiller = {
        "type": "ConfigurableDistiller",
        "student_recorders": {
            "out": {"type": "Logits", "source": "network"},
            "deep": {"type": "ModuleOutputs", "source": layer},
        },
        "teacher_recorders": {
            "mean": {"type": "ModuleOutputs", "source": "network"},
            "second": {"type": "ModuleOutputs", "source": f"teachers.1.{layer}"},
        },
        "distill_losses": {"loss_kd": {"type": "KDLoss", "tau": 2}, "loss_at": {"type": "ATLoss", "loss_weight": 1}},
        "loss_forward_mappings": {"loss_kd": logits, "loss_at": stage},
    }
    models = teachers(UNet, FCN)
    found = losses(distil(distiller, models))
    assert found["distill.loss_kd"].item() == pytest.approx(
        losses(distil({"type": KD, "tau": 2}, models))["distill.loss_kd"].item()
    )
    torch.manual_seed(9)
    at = losses(SingleTeacherDistill(MODELS.build(segmentor()), models[1], {"type": AT, "loss_weight": 1}).eval())
    assert found["distill.loss_at"].item() == pytest.approx(at["distill.loss_at_stage3"].item())


@pytest.mark.parametrize("combine", ["mean", "each"])
def test_teachers_stay_out_of_everything_and_their_features_are_freed(combine):
    algorithm = distil({"type": CWD}, teachers(UNet, FCN), combine=combine).train()
    own = {id(parameter) for teacher in algorithm.teachers for parameter in teacher.model.parameters()}
    assert own and not own & set(map(id, algorithm.parameters()))
    assert {key.split(".")[0] for key in algorithm.state_dict()} == {"architecture"}
    features = []
    for teacher in algorithm.teachers:
        assert not any(module.training for module in teacher.model.modules())
        teacher.model.network.register_forward_hook(lambda module, inputs, output: features.append(weakref.ref(output)))
        teacher.model.network.auxiliary_head.forward = teacher.model.forward = None
    values = algorithm(*batch(), mode="loss")
    sum(values.values()).backward()
    assert all(parameter.grad is None for teacher in algorithm.teachers for parameter in teacher.model.parameters())
    del values
    gc.collect()
    assert len(features) == 2 and all(feature() is None for feature in features)
    algorithm.double()
    assert {p.dtype for teacher in algorithm.teachers for p in teacher.model.parameters()} == {torch.float64}


def test_connectors_of_each_teacher_are_saved_and_loaded():
    method = {"type": CWD, "stage": -1}
    algorithm = distil(method, teachers(UNet, FCN), combine="each")
    state = algorithm.checkpoint_state()
    assert set(state["connectors"]) == {f"teacher{i}.stage.conv.{name}" for i in (0, 1) for name in ("weight", "bias")}
    again = distil(method, teachers(UNet, FCN), combine="each")
    for parameter in again.distiller.parameters():
        torch.nn.init.zeros_(parameter)
    again.load_checkpoint_state(state, "iter_1.pth")
    values, expected = (model.distiller.state_dict() for model in (again, algorithm))
    assert len(values) == 4 and all(torch.equal(value, expected[key]) for key, value in values.items())


def test_teachers_are_loaded_from_their_runs(tmp_path: Path):
    entries = []
    for index, model in enumerate(teachers(UNet, FCN)):
        (tmp_path / str(index)).mkdir()
        torch.save({"state_dict": model.state_dict()}, tmp_path / str(index) / "iter_3.pth")
        entries.append({"model": segmentor((UNet, FCN)[index], width=6), "ckpt": str(tmp_path / str(index))})
    algorithm = MultiTeacherDistill(segmentor(), entries, {"type": KD})
    algorithm(*batch(), mode="loss")
    for index, teacher in enumerate(algorithm.teachers):
        expected = torch.load(tmp_path / str(index) / "iter_3.pth")["state_dict"]
        assert all(torch.equal(value, expected[key]) for key, value in teacher.model.state_dict().items())
    entries[1]["ckpt"] = str(tmp_path / "other_run")
    with pytest.raises(UserError, match=r"python train.py .*other_run"):
        MultiTeacherDistill(segmentor(), entries, {"type": KD}).init_weights()


MISTAKES = {
    "teachers": ({"teachers": []}, "model.teachers: expected a list"),
    "combine": ({"combine": "sum"}, "model.combine is 'sum', expected 'mean' or 'each'"),
    "no model": ({"teachers": [{"ckpt": "x"}]}, r"model.teachers\[0\]: no 'model'"),
    "a key": ({"teachers": [{"model": plain(), "wieght": 2}]}, r"teachers\[0\]: it has no key 'wieght'"),
    "a weight": (
        {"teachers": [{"model": plain(), "weight": 0}]},
        r"teachers\[0\].weight is 0, expected a number above",
    ),
    "classes": ({"teachers": [{"model": plain(5)}]}, "student predicts 4 classes .* the teacher 5"),
    "features": ({"distiller": {"type": "AT"}}, "combine='mean'.*has no feature_info"),
    "own distiller": ({"teachers": [{"model": plain(), "distiller": {}}]}, "all teachers share model.distiller"),
    "no distiller": ({"distiller": None, "combine": "each"}, "has no distiller, and model.distiller is not set"),
    "no mean": (
        {"distiller": {"type": "ConfigurableDistiller"}},
        "one target for losses on the teachers' 'network', but no loss takes it",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_refused(name):
    changes, message = MISTAKES[name]
    arguments = {"architecture": segmentor(), "teachers": [{"model": plain()}], "distiller": {"type": KD}, **changes}
    with pytest.raises(UserError, match=message):
        MultiTeacherDistill(**arguments)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"type": "KDLoss", "tau": 3}, "loss_0 and loss_1 take other temperatures or axes"),
        ({"type": "CWDLoss", "tau": 2}, "loss_0 and loss_1 take other temperatures or axes"),
        ({"type": "ATLoss"}, r"loss_1 \(ATLoss\) forms no softmax"),
        ({"type": "LSKDLoss"}, r"loss_1 \(LSKDLoss\) forms no softmax"),
        ({"type": "KDLoss", "tau": 2, "loss_weight": 5}, None),
    ],
)
def test_losses_on_the_mean_must_form_the_same_distribution(extra, message):
    mapping = {
        "student": {"recorder": "it", "from_student": True},
        "teacher": {"recorder": "it", "from_student": False},
    }
    recorders = {"it": {"type": "Logits", "source": "network"}}
    distiller = {
        "type": "ConfigurableDistiller",
        "student_recorders": recorders,
        "teacher_recorders": recorders,
        "distill_losses": {"loss_0": {"type": "KDLoss", "tau": 2}, "loss_1": extra},
        "loss_forward_mappings": {"loss_0": mapping, "loss_1": mapping},
    }
    if message is None:
        assert len(losses(distil(distiller, teachers(UNet, FCN)))) == 2
    else:
        with pytest.raises(UserError, match=message):
            distil(distiller, teachers(UNet, FCN))
