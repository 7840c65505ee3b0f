"""nnU-Net teaches: every method builds and steps, and says what several folds cannot give."""

import logging
from pathlib import Path

import pytest
import torch
from mmengine.logging import MMLogger
from pairs import batch, segmentor

from medseg_kd.distill import METHODS, MultiTeacherDistill, SingleTeacherDistill
from medseg_kd.errors import UserError
from medseg_kd.models import NnUNetTeacher, UNet
from medseg_kd.models.nnunet_folds import View
from tests.nnunet_results import dataset_json, write_results


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two folds of four classes."""
    labels = {"background": 0, "a": 1, "b": 2, "c": 3}
    folder = tmp_path_factory.mktemp("results")
    return write_results(folder, dataset=dataset_json(labels), folds=(0, 1), outputs=4)


def distil(results: Path, method: str, folds: tuple[int, ...] | None = (0,)) -> SingleTeacherDistill:
    torch.manual_seed(0)
    teacher = dict(type=NnUNetTeacher, results=str(results), folds=folds)
    return SingleTeacherDistill(segmentor(UNet), teacher, dict(type=method))


@pytest.mark.parametrize("method", sorted(METHODS))
def test_a_step_of_every_method(method: str, results: Path) -> None:
    algorithm = distil(results, method)
    algorithm.teacher.network.view = View(((0.0, 1.0, 2.0, -0.5),), flipped=(-2, -1), zoom=(1.25, 1.25))
    losses = algorithm(*batch(), mode="loss")
    distilled = [value for name, value in losses.items() if name.startswith("distill.")]
    assert distilled and all(value.isfinite() and value > 0 for value in distilled)
    sum(distilled).backward()
    gradient = algorithm.student.network.backbone.layer1[0].conv1.weight.grad
    assert gradient.isfinite().all() and gradient.abs().max() > 0
    assert not any(name.startswith("teacher") for name, _ in algorithm.named_parameters())


def test_several_folds_have_logits_alone(results: Path) -> None:
    losses = distil(results, "CWD", None)(*batch(), mode="loss")
    assert losses["distill.loss_cwd"] > 0
    with pytest.raises(UserError, match="several folds are averaged"):
        distil(results, "AT", None)


def test_its_weights_are_no_random_ones(results: Path, caplog: pytest.LogCaptureFixture) -> None:
    algorithm = distil(results, "KD")
    before = {name: value.clone() for name, value in algorithm.teacher.state_dict().items()}
    with caplog.at_level(logging.WARNING, MMLogger.get_current_instance().name):
        algorithm.init_weights()
    assert "teaches noise" not in caplog.text
    assert algorithm.teachers[0].source == f"{results}, fold_0"
    assert all(torch.equal(value, before[name]) for name, value in algorithm.teacher.state_dict().items())


def test_other_classes_are_refused(results: Path) -> None:
    teacher = dict(type="NnUNetTeacher", results=str(results))
    with pytest.raises(UserError, match=r"student predicts 3 classes .*, the teacher 4 \("):
        SingleTeacherDistill(segmentor(UNet, num_classes=3), teacher, dict(type="KD"))


def test_it_takes_no_checkpoint(results: Path) -> None:
    teacher = dict(type="NnUNetTeacher", results=str(results))
    with pytest.raises(UserError, match=r"model.teacher_ckpt is work_dirs/a, but the teacher brings its weights \("):
        SingleTeacherDistill(segmentor(UNet), teacher, dict(type="KD"), teacher_ckpt="work_dirs/a")


def test_it_is_one_of_several_teachers(results: Path) -> None:
    teachers = [dict(model=segmentor(UNet)), dict(model=dict(type="NnUNetTeacher", results=str(results)))]
    algorithm = MultiTeacherDistill(segmentor(UNet), teachers, dict(type="KD"))
    assert algorithm(*batch(), mode="loss")["distill.loss_kd"] > 0
