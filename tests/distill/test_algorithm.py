"""The algorithm: what the teacher may and may not do, the batch, checkpoints, distributed training."""

import gc
import weakref
from pathlib import Path

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.logging import MMLogger
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from pairs import batch, encoder_decoder, plain, segmentor

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
from medseg_kd.errors import UserError
from medseg_kd.models import FCN, RegionSegmentor
from medseg_kd.registry import MODELS

STAGE = {"type": CWD, "stage": -1}


def distil(student=None, teacher=None, method=None, **options) -> SingleTeacherDistill:
    """A plain pair with KD, the teacher a built one, unless told otherwise."""
    teacher = MODELS.build(teacher or plain())
    return SingleTeacherDistill(student or plain(), teacher, method or {"type": KD}, **options)


def test_teacher_is_no_submodule_yet_follows():
    algorithm = distil(segmentor(), segmentor(FCN), STAGE)
    teachers = set(map(id, algorithm.teacher.parameters()))
    assert teachers and not teachers & set(map(id, algorithm.parameters()))
    assert {key.split(".")[0] for key in algorithm.state_dict()} == {"architecture", "distiller"}
    assert "distiller.connectors.stage.conv.weight" in dict(algorithm.named_parameters())
    algorithm.double()
    assert {p.dtype for p in algorithm.teacher.parameters()} == {torch.float64}
    assert not any(p.requires_grad for p in algorithm.teacher.parameters())


def test_teacher_stays_in_eval_mode():
    algorithm = distil()
    algorithm.train()
    assert algorithm.student.training and not any(module.training for module in algorithm.teacher.modules())
    images, labels = batch()
    algorithm.distiller.clear = lambda: None
    algorithm(images, labels, mode="loss")
    taught = algorithm.distiller.teacher_recorders.recorders["logits"].get()
    assert torch.equal(taught, algorithm.teacher.network(images)) and not taught.requires_grad


def test_teacher_runs_its_network_alone():
    algorithm = distil(segmentor(), segmentor(FCN))
    algorithm.teacher.forward = None
    algorithm.teacher.network.auxiliary_head.forward = None
    losses = algorithm(*batch(), mode="loss")
    assert {"loss_ce", "aux1.loss_ce", "distill.loss_kd"} == set(losses)


def test_both_see_the_batch_padded_once_to_what_both_need():
    algorithm = distil(plain(size_divisor=4), plain(size_divisor=6))
    seen = []
    for model in (algorithm.student, algorithm.teacher):
        model.network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].shape))
    images, labels = batch((30, 24))
    algorithm.eval()
    losses = algorithm(images, labels, mode="loss")
    assert seen == [(2, 1, 36, 24)] * 2
    images, labels = batch((30, 24))
    with torch.no_grad():
        student, teacher = (
            model.network(torch.nn.functional.pad(images, (0, 0, 0, 6)))
            for model in (algorithm.student, algorithm.teacher)
        )
    kd = algorithm.distiller.distill_losses["loss_kd"](student[..., :30, :], teacher[..., :30, :])
    assert losses["distill.loss_kd"].item() == pytest.approx(kd.item(), rel=1e-5)


def test_inference_is_the_students():
    algorithm = distil(segmentor(), segmentor(FCN)).eval()
    images, labels = batch()
    assert torch.equal(algorithm(images), algorithm.student(images))
    predicted = algorithm(images, labels, [{"case_name": "a"}, {"case_name": "b"}], mode="predict")
    assert predicted[1].case_name == "b"
    assert predicted[0].pred_sem_seg.data.shape == (1, 32, 32)
    assert algorithm.data_preprocessor is algorithm.student.data_preprocessor


def test_a_given_preprocessor_replaces_the_students():
    algorithm = distil(data_preprocessor={"type": "medseg_kd.SlicePreprocessor", "size": (16, 16)})
    assert algorithm.student.data_preprocessor is algorithm.data_preprocessor
    assert algorithm.data_preprocessor.size == (16, 16)


def test_a_train_step_moves_student_and_connectors_alone():
    algorithm = distil(segmentor(), segmentor(FCN), STAGE)
    before = {"teacher": algorithm.teacher.state_dict(), "own": algorithm.state_dict()}
    before = {who: {key: value.clone() for key, value in state.items()} for who, state in before.items()}
    optimizer = OptimWrapper(torch.optim.SGD(algorithm.parameters(), lr=1.0))
    images, labels = batch()
    log = algorithm.train_step({"inputs": images, "labels": labels}, optimizer)
    assert log["loss"].item() == pytest.approx(sum(v.item() for k, v in log.items() if k != "loss"))
    assert all(torch.equal(value, before["teacher"][key]) for key, value in algorithm.teacher.state_dict().items())
    for key in ("architecture.network.head.conv_seg.weight", "distiller.connectors.stage.conv.weight"):
        assert not torch.equal(algorithm.state_dict()[key], before["own"][key])


def test_students_own_losses_can_be_left_out():
    """They are not computed, and its auxiliary head learns nothing."""
    algorithm = distil(segmentor(), calculate_student_loss=False)
    for loss in algorithm.student.losses:
        loss.forward = None
    losses = algorithm(*batch(), mode="loss")
    assert set(losses) == {"distill.loss_kd"} and algorithm.has_unused_parameters
    losses["distill.loss_kd"].backward()
    learning = {name.split(".")[1] for name, p in algorithm.student.named_parameters() if p.grad is not None}
    assert "head" in learning and "auxiliary_head" not in learning
    assert not distil().has_unused_parameters


def test_features_are_freed_after_the_step():
    algorithm = distil()
    features = []
    algorithm.teacher.network.register_forward_hook(lambda module, inputs, output: features.append(weakref.ref(output)))
    losses = algorithm(*batch(), mode="loss")
    del losses
    gc.collect()
    assert features[0]() is None
    algorithm.distiller.compute_distill_losses = lambda label: 1 / 0
    with pytest.raises(ZeroDivisionError):
        algorithm(*batch(), mode="loss")
    for recorders in (algorithm.distiller.student_recorders, algorithm.distiller.teacher_recorders):
        assert not recorders.recorders["logits"].records


@pytest.mark.parametrize("method", [{"type": AT}, {"type": ReviewKD, "mid_channel": 8}, {"type": AttnFD}])
def test_tapped_stages_are_freed_after_the_step(method):
    algorithm = distil(segmentor(), segmentor(FCN), method)
    features = []
    for model in (algorithm.student, algorithm.teacher):
        for stage in model.feature_info:
            module = model.get_submodule(stage["module"])
            module.register_forward_hook(lambda module, inputs, output: features.append(weakref.ref(output)))
    losses = algorithm(*batch(), mode="loss")
    gc.collect()
    assert len(features) == 8 and all(feature() is None for feature in features[:4])
    sum(losses.values()).backward()
    del losses
    gc.collect()
    assert all(feature() is None for feature in features)


def test_student_starts_from_the_weights_that_it_has_alone():
    torch.manual_seed(1)
    alone = MODELS.build(segmentor())
    alone.init_weights()
    torch.manual_seed(1)
    algorithm = SingleTeacherDistill(segmentor(), segmentor(FCN), STAGE)
    algorithm.init_weights()
    state = algorithm.student.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in alone.state_dict().items())


@pytest.fixture
def teacher_run(tmp_path: Path) -> Path:
    """A run folder with the checkpoint of a FCN teacher."""
    torch.manual_seed(5)
    torch.save({"state_dict": MODELS.build(segmentor(FCN)).state_dict()}, tmp_path / "iter_20.pth")
    return tmp_path


@pytest.mark.parametrize("first", ["init_weights", "loss"])
def test_teacher_is_loaded_when_training_starts_and_once(teacher_run, first):
    algorithm = SingleTeacherDistill(segmentor(), segmentor(FCN), {"type": "KD"}, teacher_ckpt=str(teacher_run))
    expected = torch.load(teacher_run / "iter_20.pth")["state_dict"]
    if first == "init_weights":
        algorithm.init_weights()
    else:
        algorithm(*batch(), mode="loss")
    assert all(torch.equal(value, expected[key]) for key, value in algorithm.teacher.state_dict().items())
    (teacher_run / "iter_20.pth").unlink()
    algorithm(*batch(), mode="loss")


def test_a_missing_teacher_matters_to_training_alone(tmp_path):
    run = str(tmp_path / "fcn_r50_d8_40k_synapse")
    algorithm = SingleTeacherDistill(segmentor(), segmentor(FCN), {"type": "KD"}, teacher_ckpt=run)
    images, labels = batch()
    assert algorithm.eval()(images).shape == (2, 4, 32, 32)
    for start in (algorithm.init_weights, lambda: algorithm(images, labels, mode="loss")):
        with pytest.raises(UserError, match=r"python train.py .*fcn_r50_d8_40k_synapse.py"):
            start()


def test_weights_of_another_teacher_are_refused(teacher_run):
    algorithm = SingleTeacherDistill(segmentor(), segmentor(), {"type": "KD"}, teacher_ckpt=str(teacher_run))
    with pytest.raises(UserError, match=r"the teacher's checkpoint .*iter_20.pth does not fit Segmentor"):
        algorithm.load_teachers()


def test_no_teacher_checkpoint_is_a_warning(caplog):
    algorithm = SingleTeacherDistill(plain(), plain(), {"type": "KD"})
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    algorithm.load_teachers()
    logger.removeHandler(caplog.handler)
    assert "model.teacher_ckpt is not set" in caplog.text


def test_checkpoint_holds_student_and_connectors(tmp_path):
    algorithm = distil(segmentor(), segmentor(FCN), STAGE)
    torch.save(algorithm.checkpoint_state(), tmp_path / "iter_1.pth")
    checkpoint = torch.load(tmp_path / "iter_1.pth", weights_only=True)
    assert set(checkpoint) == {"state_dict", "connectors"}
    assert set(checkpoint["connectors"]) == {"stage.conv.weight", "stage.conv.bias"}
    student = MODELS.build(segmentor())
    student.load_state_dict(checkpoint["state_dict"])
    again = distil(segmentor(), segmentor(FCN), STAGE)
    again.load_checkpoint_state(checkpoint, "iter_1.pth")
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in algorithm.state_dict().items())
    student_alone = distil(segmentor(), segmentor(FCN), STAGE)
    student_alone.load_checkpoint_state({"state_dict": student.state_dict()}, "alone.pth")
    with pytest.raises(UserError, match=r"iter_1.pth \(its connectors\) does not fit"):
        again.load_checkpoint_state({**checkpoint, "connectors": {}}, "iter_1.pth")
    with pytest.raises(UserError, match="other.pth does not fit Segmentor"):
        again.load_checkpoint_state({"state_dict": algorithm.teacher.state_dict()}, "other.pth")


def test_pairs_with_other_classes_or_channels_are_refused():
    with pytest.raises(UserError, match="student predicts 4 classes .* the teacher 5 .*on the student's classes"):
        distil(plain(), plain(num_classes=5))
    message = "student takes 3 input channels .* the teacher 1 .*on the student's input channels"
    with pytest.raises(UserError, match=message):
        distil(segmentor(in_channels=3), segmentor())


def test_images_of_several_channels():
    algorithm = distil(segmentor(in_channels=3), segmentor(FCN, in_channels=3), STAGE)
    assert algorithm(*batch(channels=3), mode="loss")["distill.loss_cwd"] > 0


def test_labels_of_padding_take_no_part_in_any_loss():
    algorithm = distil(plain(size_divisor=4), plain(size_divisor=6))
    seen = []
    algorithm.distiller.distill_losses["loss_kd"].register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["label"]), with_kwargs=True
    )
    images, labels = batch((30, 24))
    algorithm(images, labels, mode="loss")
    (label,) = seen
    assert label.dtype == torch.uint8 and torch.equal(label[:, :30], labels) and (label[:, 30:] == 255).all()


def test_teacher_dtype():
    algorithm = distil(teacher_dtype="bf16")
    seen = []
    algorithm.teacher.network.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    algorithm.student.network.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    losses = algorithm(*batch(), mode="loss")
    assert seen == [torch.bfloat16, torch.float32] and losses["distill.loss_kd"].dtype == torch.float32
    with pytest.raises(UserError, match="teacher_dtype is 'int8', expected auto, None or one of bf16"):
        distil(teacher_dtype="int8")


def test_configs_of_mmengine_and_mmrazor_build(tmp_path):
    (tmp_path / "teacher.py").write_text(
        "model = dict(type='Segmentor', num_classes=4, network=dict(type='FCN', channels=8, auxiliary_channels=8,\n"
        "    backbone=dict(type='mmseg.ResNetV1c', depth=18, in_channels=1, base_channels=4, stem_channels=4)))\n"
    )
    config = ConfigDict(
        type="SingleTeacherDistill",
        architecture=segmentor(),
        teacher={"cfg_path": str(tmp_path / "teacher.py")},
        distiller={"type": "ReviewKD", "mid_channel": 8},
    )
    assert MODELS.build(config)(*batch(), mode="loss")["distill.loss_reviewkd"] > 0


@pytest.mark.parametrize("own", [True, False])
def test_segmentors_of_mmsegmentation(own):
    algorithm = distil(encoder_decoder(), encoder_decoder(width=6), calculate_student_loss=own)
    losses = algorithm(*batch((64, 64)), mode="loss")
    assert {name.split(".")[0] for name in losses} == ({"decode", "aux", "distill"} if own else {"distill"})
    losses["distill.loss_kd"].backward()
    assert algorithm.student.decode_head.conv_seg.weight.grad.abs().sum() > 0


def test_a_segmentor_of_mmsegmentation_learns_from_one_of_this_project():
    for student, teacher in ((encoder_decoder(), segmentor()), (segmentor(), encoder_decoder())):
        losses = distil(student, teacher)(*batch((64, 48)), mode="loss")
        assert losses["distill.loss_kd"] > 0


def test_distributed_training_leaves_the_teacher_out(tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    try:
        wrapped = MMDistributedDataParallel(distil(segmentor(), segmentor(FCN), STAGE))
        teachers = set(map(id, wrapped.module.teacher.parameters()))
        assert not teachers & set(map(id, wrapped.parameters()))
        optimizer = OptimWrapper(torch.optim.SGD(wrapped.parameters(), lr=0.1))
        for _ in range(2):
            images, labels = batch()
            log = wrapped.train_step({"inputs": images, "labels": labels}, optimizer)
            assert log["distill.loss_cwd"].isfinite()
    finally:
        torch.distributed.destroy_process_group()


REGIONS = [("whole", (1, 2, 3), 1), ("core", (2, 3), 2)]


def regional(**options) -> dict:
    """A segmentor of regions; its network tells its stages."""
    return {**segmentor(), "type": RegionSegmentor, "losses": [{"type": "RegionLoss"}], "regions": REGIONS, **options}


def test_regions_are_distilled_from_the_same_regions():
    for method in ({"type": CWD}, STAGE, *({"type": each} for each in (AT, ReviewKD, MGD, CIRKD, AttnFD, IFVD))):
        losses = distil(regional(), regional(), method)(*batch(), mode="loss")
        assert "loss_region" in losses and any(name.startswith("distill.loss") for name in losses)


@pytest.mark.parametrize(
    ("student", "teacher", "message"),
    [
        (regional(), segmentor(), r"learns the regions whole \[1, 2, 3\] as 1, core .*, the teacher \(.*\) none"),
        (segmentor(), regional(), r"learns the regions none, the teacher \(.*\) whole \[1, 2, 3\] as 1"),
        (regional(), regional(regions=REGIONS[::-1]), r"regions whole .*, the teacher \(.*\) core"),
    ],
)
def test_regions_are_not_distilled_from_others(student, teacher, message):
    with pytest.raises(UserError, match=message):
        distil(student, teacher, {"type": AT})


@pytest.mark.parametrize("method", [KD, DKD, DIST, LSKD, BPKD])
def test_a_softmax_over_regions_is_refused(method):
    with pytest.raises(UserError, match=rf"{method.__name__}Loss forms a softmax .*Choose one on features .*or CWD"):
        distil(regional(), regional(), {"type": method})
    teachers = [dict(model=regional(), distiller={"type": each}) for each in (CWD, method)]
    with pytest.raises(UserError, match="forms a softmax"):
        MultiTeacherDistill(regional(), teachers, combine="each")


@pytest.mark.parametrize("method", [KD, DKD, DIST])
def test_a_softmax_over_one_output_is_refused(method):
    config = encoder_decoder()
    config["decode_head"].update(num_classes=2, out_channels=1)
    with pytest.raises(
        UserError, match=rf"{method.__name__}Loss forms a softmax .* has one output.*Choose one on features"
    ):
        distil(config, config, {"type": method})
