"""Data, model and checkpoints of one run."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from mmengine.config import Config, ConfigDict

from medseg_kd.datasets import CaseDataset, Channel, DataSpec, SliceDataset, Window
from medseg_kd.datasets.conversion import SYNAPSE_CLASSES
from medseg_kd.engine import Runner
from medseg_kd.engine.agreement import (
    check_checkpoint,
    check_data,
    check_model,
    check_tested,
    check_validation,
    complete_model,
)
from medseg_kd.errors import UserError
from medseg_kd.models.mmseg_adapter import build_segmentor
from medseg_kd.registry import MODELS
from tests.engine.tiny import TinyNet, tiny_config

SPEC = DataSpec((Channel("CT", Window(-160, 240)),), ("background", "liver", "spleen"))


def config(root: Path, model: dict[str, Any], **dataset: Any) -> ConfigDict:
    return ConfigDict(
        model=model, train_dataloader=dict(dataset=dict(type=SliceDataset, data_root=str(root), **dataset))
    )


def test_the_data_tell_what_a_config_leaves_out(phantom: Path) -> None:
    cfg = config(phantom, dict(network=dict(type="UNet")), spec=dict(neighbours=1))
    complete_model(cfg)
    assert (cfg.model.num_classes, cfg.model.in_channels) == (9, 3)


def test_student_and_teachers_are_told_too(phantom: Path) -> None:
    segmentors = [dict(network=dict(type="UNet")) for _ in range(4)]
    model = dict(
        architecture=segmentors[0], teacher=segmentors[1], teachers=[dict(model=each) for each in segmentors[2:]]
    )
    cfg = config(phantom, model)
    complete_model(cfg)
    told = [cfg.model.architecture, cfg.model.teacher, *(each.model for each in cfg.model.teachers)]
    assert [(each.num_classes, each.in_channels) for each in told] == [(9, 1)] * 4


ORGANS = dict(all=tuple(range(1, 9)), kidneys=(3, 4), left=("left kidney",))
ORDER = [("all", 1), ("kidneys", "right kidney"), ("left", 3)]


def regional(**options: Any) -> dict[str, Any]:
    return dict(type="RegionSegmentor", network=dict(type="UNet"), **options)


def test_regions_come_from_the_data(phantom: Path, tmp_path: Path) -> None:
    model = dict(architecture=regional(), teacher=regional(regions=None))
    cfg = config(phantom, model, spec=dict(classes=SYNAPSE_CLASSES, regions=ORGANS, regions_class_order=ORDER))
    complete_model(cfg)
    expected = [("all", tuple(range(1, 9)), 1), ("kidneys", (3, 4), 4), ("left", (3,), 3)]
    assert cfg.model.architecture.regions == cfg.model.teacher.regions == expected
    cfg.train_dataloader.dataset.type = "SliceDataset"
    Config(cfg.to_dict()).dump(tmp_path / "run.py")  # which sorts the keys of dicts
    again = Config.fromfile(tmp_path / "run.py")
    complete_model(again)
    assert again.model.architecture.regions == expected


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({}, r"model is a RegionSegmentor, which learns regions, but the data in .* have none. Name regions"),
        (
            dict(classes=SYNAPSE_CLASSES, regions=dict(ORGANS, kidneys=(3, 4, 5))),
            r"do not tell the class that each becomes \(all, kidneys, left\)",
        ),
    ],
)
def test_data_without_regions(phantom: Path, spec: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        complete_model(config(phantom, regional(), spec=spec))


def test_data_of_other_regions(phantom: Path) -> None:
    spec = dict(classes=SYNAPSE_CLASSES, regions=dict(left=3))
    with pytest.raises(
        UserError, match=r"model.teacher.regions is .*right.*, but the data in .* have .*left.* \(name, "
    ):
        complete_model(config(phantom, dict(teacher=regional(regions=[("right", (4,), 4)])), spec=spec))
    network = dict(type=TinyNet)
    model = MODELS.build({**regional(regions=[("right", (1,), 1)], num_classes=3), "network": network})
    check_model(model, replace(SPEC, regions={"right": (1,)}), "data")
    for other in (SPEC, replace(SPEC, regions={"right": (2,)})):
        with pytest.raises(UserError, match=r"model(.regions)? is .*, but the data in data have"):
            check_model(model, other, "data")


def test_regions_of_data_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="data folder not found"):
        complete_model(config(tmp_path / "absent", regional(num_classes=9)))


@pytest.mark.parametrize("place", ["model", "network", "backbone"])
def test_what_a_config_says_is_compared(phantom: Path, place: str) -> None:
    model = dict(num_classes=9, network=dict(type="UNet", backbone=dict(depth=18)))
    {"model": model, "network": model["network"], "backbone": model["network"]["backbone"]}[place]["in_channels"] = 3
    with pytest.raises(UserError, match=r"model.in_channels is 3, but the data in .* have 1 \(CT\)"):
        complete_model(config(phantom, model))
    with pytest.raises(UserError, match=r"model.teacher.num_classes is 5, but the data in .* have 9 \(background, aor"):
        complete_model(config(phantom, dict(teacher=dict(num_classes=5, network={}))))


def test_data_that_cannot_be_opened(tmp_path: Path) -> None:
    cfg = config(tmp_path / "absent", dict(num_classes=9, network={}))
    complete_model(cfg)
    assert "in_channels" not in cfg.model
    with pytest.raises(UserError, match="data folder not found"):
        complete_model(config(tmp_path / "absent", dict(network={})))


def test_a_test_needs_no_training_data(phantom: Path, tmp_path: Path) -> None:
    cfg = config(tmp_path / "absent", dict(network={}))
    cfg.test_dataloader = dict(dataset=dict(type=CaseDataset, data_root=str(phantom)))
    complete_model(cfg)
    assert cfg.model.num_classes == len(SYNAPSE_CLASSES)


def test_data_sets_of_others_are_left_alone() -> None:
    cfg = ConfigDict(
        model=dict(num_classes=2, network={}), train_dataloader=dict(dataset=dict(type="mmseg.ADE20KDataset"))
    )
    complete_model(cfg)


def test_a_wrapped_data_set(phantom: Path) -> None:
    inner = dict(type="SliceDataset", data_root=str(phantom))
    for wrapped in (dict(type="RepeatDataset", dataset=inner), dict(type="ConcatDataset", datasets=[inner, inner])):
        cfg = ConfigDict(model=dict(network={}), train_dataloader=dict(dataset=wrapped))
        complete_model(cfg)
        assert cfg.model.num_classes == 9


def test_a_built_model() -> None:
    class Model:
        num_classes, in_channels = 3, 1

    check_model(Model(), SPEC, "data")
    Model.num_classes = 4
    with pytest.raises(UserError, match=r"model.num_classes is 4, but the data in data have 3 \(background, liver"):
        check_model(Model(), SPEC, "data")


@pytest.mark.parametrize(
    ("classes", "channels", "message"),
    [
        (4, 1, r"the EncoderDecoder has num_classes=4, but .* have 3 .*Set num_classes of its heads to 3"),
        (3, 3, r"the EncoderDecoder has in_channels=3, but .* have 1 .*Set in_channels of its backbone to 1"),
    ],
)
def test_a_model_of_mmsegmentation(classes: int, channels: int, message: str) -> None:
    backbone = dict(type="mmseg.ResNetV1c", depth=18, in_channels=channels, base_channels=4, stem_channels=4)
    head = dict(type="mmseg.FCNHead", num_classes=classes, in_channels=32, channels=8, in_index=3)
    model = build_segmentor(dict(type="mmseg.EncoderDecoder", backbone=backbone, decode_head=head))
    with pytest.raises(UserError, match=message):
        check_model(model, SPEC, "data")


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            DataSpec(SPEC.channels, ("background", "spleen", "liver")),
            "classes: background, spleen, liver and background,",
        ),
        (DataSpec((Channel("CT", Window(-125, 275)),), SPEC.classes), "low=-125.0.*low=-160.0"),
        (DataSpec((Channel("MR"),), SPEC.classes), "channels: MR and CT"),
        (DataSpec(SPEC.channels, SPEC.classes, neighbours=1), "neighbours: 1 and 0"),
    ],
)
def test_checkpoints_of_other_data(other: DataSpec, message: str) -> None:
    with pytest.raises(UserError, match=rf"the teacher's checkpoint x.pth was trained on other images.*\n.*{message}"):
        check_checkpoint({"spec": other.to_json()}, SPEC, "x.pth", "the teacher's checkpoint")


def test_checkpoints_of_the_same_data() -> None:
    check_checkpoint({"spec": SPEC.to_json()}, SPEC, "x.pth")
    check_checkpoint({"spec": DataSpec((Channel("CT"),), SPEC.classes).to_json()}, SPEC, "x.pth")
    check_checkpoint({}, SPEC, "x.pth")
    check_checkpoint(None, SPEC, "x.pth")
    check_checkpoint({"spec": SPEC.to_json()}, None, "x.pth")


def test_checkpoints_of_former_versions_are_compared_by_their_classes() -> None:
    check_checkpoint({"dataset_meta": {"classes": SPEC.classes}}, SPEC, "x.pth")
    with pytest.raises(UserError, match="classes: background, spleen, liver and background, liver, spleen"):
        check_checkpoint({"dataset_meta": {"classes": ("background", "spleen", "liver")}}, SPEC, "x.pth")


def test_the_runner_compares_data_and_model(phantom: Path, tmp_path: Path) -> None:
    cfg = tiny_config(phantom, tmp_path)
    cfg.model.num_classes = 5
    with pytest.raises(UserError, match=r"model.num_classes is 5, but the data in .* have 9 \(background, aorta"):
        Runner.from_cfg(cfg)


def test_classes_and_channels_go_into_the_run(phantom: Path, tmp_path: Path) -> None:
    cfg = tiny_config(phantom, tmp_path, max_iters=2)
    cfg.model.num_classes = None
    for name in ("train_dataloader", "val_dataloader", "test_dataloader"):
        cfg[name].dataset.spec = dict(neighbours=1)
    runner = Runner.from_cfg(cfg)
    runner.train()
    assert (runner.model.num_classes, runner.model.in_channels) == (9, 3)
    meta = torch.load(tmp_path / "iter_2.pth", weights_only=True)["meta"]
    assert DataSpec.from_json(meta["spec"], "meta") == runner.train_dataloader.dataset.spec
    assert meta["spec"]["labels"]["aorta"] == 1 and meta["spec"]["neighbours"] == 1
    dumped = (tmp_path / Path(cfg.filename).name).read_text()
    assert "num_classes=9" in dumped and "in_channels=3" in dumped


def test_a_checkpoint_of_other_classes_is_not_tested(phantom: Path, tmp_path: Path) -> None:
    """Organs of the same number under other names would fill the wrong rows of the table."""
    cfg = tiny_config(phantom, tmp_path / "run", max_iters=2)
    Runner.from_cfg(cfg).train()
    other = tmp_path / "data"
    shutil.copytree(phantom, other)
    manifest = json.loads((other / "manifest.json").read_text())
    manifest.pop("spec", None)
    manifest["classes"][1:3] = reversed(manifest["classes"][1:3])
    (other / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=r"dataset.spec and .* differ in classes"):
        Runner.from_cfg(tiny_config(other, tmp_path / "test", load_from=str(tmp_path / "run/iter_2.pth"))).test()
    for options in (dict(load_from=str(tmp_path / "run/iter_2.pth")), dict(resume=True)):
        cfg = tiny_config(other, tmp_path / "run", **options)
        for name in ("train_dataloader", "val_dataloader", "test_dataloader"):
            cfg[name].dataset.metainfo = None
        runner = Runner.from_cfg(cfg)
        with pytest.raises(UserError, match=r"(?s)iter_2.pth was trained on other images .*classes: background, aorta"):
            runner.train() if cfg.resume else runner.test()


def test_a_case_on_both_sides_is_told(phantom: Path, tmp_path: Path) -> None:
    cfg = tiny_config(phantom, tmp_path, max_iters=1)
    cfg.val_dataloader.dataset.update(data_root=f"{phantom}/", split="train", cases=["case0002"])
    Runner.from_cfg(cfg).train()
    (log,) = tmp_path.glob("*/*.log")
    assert "case0002 of" in log.read_text() and "both trained on and validated on" in log.read_text()


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the log is told."""
    messages: list[str] = []
    monkeypatch.setattr("medseg_kd.engine.agreement.print_log", lambda message, *_: messages.append(message))
    return messages


def copied_into_test(phantom: Path, root: Path, case: str) -> None:
    """A phantom whose first training case is a test case too, under a name."""
    shutil.copytree(phantom, root)
    slices = [np.load(path) for path in sorted((root / "train_npz").glob("case0001_*"))]
    with h5py.File(root / f"test_vol_h5/{case}.npy.h5", "w") as file:
        for name in ("image", "label"):
            file[name] = np.stack([each[name] for each in slices])
    (root / "lists/lists_Synapse/test_vol.txt").write_text(f"{case}\n")


def test_a_copy_of_a_case_in_both_splits_is_refused(phantom: Path, tmp_path: Path) -> None:
    copied_into_test(phantom, tmp_path / "data", "case0001")
    with pytest.raises(UserError, match=r"case0001 in train and in test have the same images.*exclude_cases"):
        Runner.from_cfg(tiny_config(tmp_path / "data", tmp_path / "run")).train()
    cfg = tiny_config(tmp_path / "data", tmp_path / "run", max_iters=1)
    cfg.train_dataloader.dataset.exclude_cases = ["case0001"]
    Runner.from_cfg(cfg).train()


def test_missing_data_of_any_loader_are_told_before_slices_are_decoded(phantom: Path, tmp_path: Path) -> None:
    cfg = tiny_config(phantom, tmp_path)
    cfg.val_dataloader.dataset.data_root = "nowhere"
    cfg.train_dataloader.dataset.cache_dir = str(tmp_path / "cache")
    with pytest.raises(UserError, match="data folder not found: nowhere"):
        Runner.from_cfg(cfg).train()
    assert not (tmp_path / "cache").exists()


def test_other_images_under_the_same_name(phantom: Path, tmp_path: Path, told: list[str]) -> None:
    shutil.copytree(phantom, root := tmp_path / "data")
    shutil.move(root / "test_vol_h5/case0004.npy.h5", root / "test_vol_h5/case0001.npy.h5")
    (root / "lists/lists_Synapse/test_vol.txt").write_text("case0001\n")
    check_data(tiny_config(root, tmp_path))
    assert len(told) == 1 and "case0001" in told[0] and "if they are one" in told[0]


def test_testing_what_was_trained_on_is_told(phantom: Path, tmp_path: Path, told: list[str]) -> None:
    copied_into_test(phantom, tmp_path / "data", "case0001")
    trained = dict(type=SliceDataset, data_root=str(tmp_path / "data"))
    tested = CaseDataset(str(tmp_path / "data"))
    check_tested({**trained, "exclude_cases": ["case0001"]}, tested)
    check_tested({**trained, "data_root": "nowhere"}, tested)
    check_tested(None, tested)
    assert not told
    check_tested(trained, tested)
    assert "case0001" in told[0] and "are trained on by this config (train)" in told[0]


def test_cases_without_labels_are_not_validated_on(phantom: Path) -> None:
    validated = CaseDataset(str(phantom))
    check_validation(validated)
    validated._found = [replace(case, labelled=False) for case in validated._found]
    with pytest.raises(UserError, match="case0004, case0005 cannot be validated on: there is no label"):
        check_validation(validated)
