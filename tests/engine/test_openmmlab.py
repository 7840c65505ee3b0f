"""Configs and checkpoints of MMSegmentation and MMRazor run as they are, and give what their own runner gives."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope

from medseg_kd.cli.convert_weights import main as convert
from medseg_kd.configuration import load_run
from medseg_kd.engine import Runner
from medseg_kd.engine.agreement import check_checkpoint
from medseg_kd.errors import UserError
from medseg_kd.inference import Predictor
from medseg_kd.models.checkpoint import read_checkpoint
from medseg_kd.models.mmseg_adapter import build_segmentor
from medseg_kd.models.mmseg_preprocessor import SegDataPreProcessor
from medseg_kd.models.placeholders import Placeholder
from medseg_kd.report.look.batches import browse
from medseg_kd.report.look.page import write_look_page
from tests.engine.openmmlab_project import SCALE, stock, train_stock, write_project

WRITER = dict(type="medseg_kd.PredictionWriter")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder, importable, with a teacher that MMEngine's own runner has trained."""
    folder = write_project(tmp_path_factory.mktemp("project"))
    sys.path.insert(0, str(folder))
    train_stock(folder / "teacher.py", folder / "stock")
    yield folder
    sys.path.remove(str(folder))
    sys.modules.pop("polyp_dataset")


def run(config: Path, work_dir: Path, **options: Any) -> Runner:
    DefaultScope._instance_dict.clear()
    return Runner.from_cfg(load_run(config, {"randomness.seed": 0, **options}, work_dir=str(work_dir)))


@pytest.fixture(scope="module")
def trained(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the student's config."""
    folder = tmp_path_factory.mktemp("trained")
    run(project / "student.py", folder).train()
    return folder


def test_what_a_student_sees_is_shown(project: Path, tmp_path: Path) -> None:
    cfg = load_run(project / "distill.py", {"randomness.seed": 0}, work_dir=str(tmp_path))
    for split, count in (("train", 2), ("val", 1)):
        browsed = browse(cfg, split, 1)
        assert len(browsed.slices) == count and {each.seen[0].shape for each in browsed.slices} == {(3, 32, 48)}
        assert write_look_page(browsed, tmp_path / "page.html", split, []) == []
        assert "polyp" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_a_test_gives_what_mmsegmentations_own_gives(project: Path, tmp_path: Path) -> None:
    checkpoint = project / "stock" / "iter_2.pth"
    weights = torch.load(checkpoint, weights_only=False)
    head = weights["state_dict"]["decode_head.conv_seg.weight"]
    head.copy_(torch.randn(head.shape, generator=torch.Generator().manual_seed(0)))  # else all is background
    torch.save(weights, changed := tmp_path / "changed.pth")
    with stock(project / "teacher.py", tmp_path / "theirs", load_from=str(changed)) as runner:
        theirs, wanted = runner.test(), [runner.model.test_step(batch) for batch in runner.test_dataloader]
    ours = run(project / "teacher.py", tmp_path / "ours", load_from=str(changed))
    assert ours.test() == theirs and 0 < theirs["mDice"] < 100
    for batch, (sample,) in zip(ours.test_dataloader, wanted, strict=True):
        (found,) = ours.model.test_step(batch)
        assert torch.equal(found.pred_sem_seg.data, sample.pred_sem_seg.data.to(torch.uint8))
        assert len(found.pred_sem_seg.data.unique()) == 2


def test_a_training_step_sees_what_mmsegmentations_own_sees(project: Path, tmp_path: Path) -> None:
    with stock(project / "student.py", tmp_path / "theirs") as runner:
        theirs, batch = runner.model, next(iter(runner.build_dataloader(runner._train_dataloader, seed=0)))
        expected = theirs.data_preprocessor(batch, True)
    ours = run(project / "student.py", tmp_path / "ours").model.data_preprocessor(batch, True)
    assert torch.equal(ours["inputs"], expected["inputs"]) and ours["inputs"].shape == (2, 3, 32, 48)
    labels = torch.cat([sample.gt_sem_seg.data for sample in expected["data_samples"]])
    assert torch.equal(ours["labels"], labels.to(torch.uint8))


def test_the_checkpoint_says_what_the_network_sees_and_predicts_files(project: Path, trained: Path) -> None:
    spec = read_checkpoint(trained / "iter_2.pth")["meta"]["spec"]
    rules = [{"type": "MeanStd8", "mean": m, "std": s} for m, s in zip(SCALE["mean"], SCALE["std"], strict=True)]
    assert spec["intensities"] == rules and list(spec["labels"]) == ["background", "polyp"]
    assert list(spec["channel_names"].values()) == ["red", "green", "blue"]
    predictor = Predictor.from_checkpoint(trained, "cpu")
    runner = run(project / "student.py", trained, load_from=str(trained / "iter_2.pth"))
    runner.load_or_resume()
    seen: list[torch.Tensor] = []
    for model in (predictor.model, runner.model):
        model.backbone.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    found = predictor(project / "img" / "a.png").labels
    (expected,) = runner.model.eval().test_step(next(iter(runner.test_dataloader)))
    assert found.shape == expected.pred_sem_seg.data.shape[1:] == (52, 70)
    assert seen[0].shape == seen[1].shape == (1, 3, 32, 48)
    # OpenCV resizes the bytes, which it rounds; here they are numbers.
    assert (seen[0] - seen[1]).abs().max() < 1 / min(SCALE["std"])


def test_a_config_of_mmrazor_runs_with_a_stock_teacher(project: Path, tmp_path: Path, capsys: Any) -> None:
    runner = run(project / "distill.py", tmp_path)
    assert "the student alone is scored" in capsys.readouterr().out
    runner.train()
    own = read_checkpoint(project / "stock" / "iter_2.pth")["state_dict"]
    teacher = runner.model.teacher.state_dict()
    assert teacher.keys() == own.keys() and all(torch.equal(teacher[key], own[key]) for key in own)
    losses = runner.message_hub.log_scalars
    assert {"train/distill.loss_cwd", "train/decode.loss_ce", "train/aux.loss_ce"} <= losses.keys()
    assert losses["train/distill.loss_cwd"].current() > 0 and runner.model.student.decode_head.channels == 6
    assert "on validation case a" in (tmp_path / runner.timestamp / f"{runner.timestamp}.log").read_text()
    assert type(runner.model.distiller.distill_losses["loss_cwd"]).__module__.startswith("mmrazor.")
    evaluator = [dict(type="IoUMetric"), dict(type="medseg_kd.VolumeMetric"), WRITER | dict(output_dir=str(tmp_path))]
    tested = dict(load_from=str(tmp_path / "iter_1.pth"), test_evaluator=evaluator)
    assert {"mIoU", "mDice"} <= run(project / "distill.py", tmp_path, **tested).test().keys()
    assert {path.name for path in tmp_path.glob("*.nii.gz")} == {"a.nii.gz", "b.nii.gz"}
    assert Predictor.from_checkpoint(tmp_path, "cpu").spec.num_classes == 2


def test_a_stock_checkpoint_is_a_start_and_no_run_to_go_on_with(project: Path, tmp_path: Path) -> None:
    path = project / "stock" / "iter_2.pth"
    assert isinstance(read_checkpoint(path)["message_hub"]["log_scalars"]["train/loss"], Placeholder)
    runner = run(project / "teacher.py", tmp_path, load_from=str(path))
    runner.load_or_resume()
    own = read_checkpoint(path)["state_dict"]
    assert all(torch.equal(value, own[key]) for key, value in runner.model.state_dict().items())
    going_on = run(project / "teacher.py", tmp_path, load_from=str(path), resume=True)
    with pytest.raises(UserError, match="To start a new run from these weights use --cfg-options load_from="):
        going_on.train()


def test_a_stock_checkpoint_of_another_network_or_other_images(project: Path, tmp_path: Path) -> None:
    path = project / "stock" / "iter_2.pth"
    with pytest.raises(UserError, match="does not fit EncoderDecoder: its weights belong to another network"):
        run(project / "student.py", tmp_path, load_from=str(path)).test()
    otherwise = {"model.data_preprocessor.mean": [0, 0, 0]}
    with pytest.raises(UserError, match=r"values: mean=\[123.675, .* and mean=\[0.0, 0.0, .*\(data_preprocessor\)"):
        run(project / "teacher.py", tmp_path, load_from=str(path), **otherwise).test()
    with pytest.raises(UserError, match=r"the teacher .* gets the student's batch \(mean=\[0.0"):
        run(project / "distill.py", tmp_path, **{"model.architecture.data_preprocessor.mean": [0, 0, 0]})


def test_converted_weights_are_plain_and_keep_what_they_say(project: Path, tmp_path: Path) -> None:
    path, out = str(project / "stock" / "iter_2.pth"), tmp_path / "teacher.pth"
    convert(["mmengine", path, str(out), "--config", str(project / "teacher.py")])
    kept = torch.load(out, weights_only=True)
    own = read_checkpoint(path)["state_dict"]
    assert kept["state_dict"].keys() == own.keys()
    assert kept["meta"]["dataset_meta"]["classes"] == ["background", "polyp"]
    build = build_segmentor(Config.fromfile(project / "teacher_model.py").model | {"_scope_": "mmseg"})
    check_checkpoint(kept["meta"], None, str(out), preprocessor=build.data_preprocessor)
    with pytest.raises(UserError, match="values: "):
        check_checkpoint(kept["meta"], None, str(out), preprocessor=SegDataPreProcessor(bgr_to_rgb=True))
    with pytest.raises(UserError, match="does not fit .*student.py"):
        convert(["mmengine", path, str(tmp_path / "x.pth"), "--config", str(project / "student.py")])
