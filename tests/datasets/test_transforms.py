"""The steps between file and batch, alone and with those of MMCV and MMSegmentation."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmcv.transforms import RandomFlip
from mmengine.registry import DefaultScope
from scipy.ndimage import zoom
from synapse_folders import SHAPE, write_npz

from medseg_kd.datasets import CaseDataset, LoadSlice, PackSlice, SliceDataset, collate_slices
from medseg_kd.errors import UserError
from medseg_kd.models import SlicePreprocessor
from medseg_kd.registry import DATASETS

BY_NAME = [dict(type="LoadSlice"), dict(type="PackSlice")]
BY_CLASS = [dict(type=LoadSlice), dict(type=PackSlice)]
BUILT = [LoadSlice(), PackSlice()]


@pytest.mark.parametrize("pipeline", [BY_NAME, BY_CLASS, BUILT], ids=["names", "classes", "built"])
def test_pipelines_need_no_default_scope(transunet: Path, pipeline: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DefaultScope, "get_current_instance", classmethod(lambda cls: None))
    dataset = DATASETS.build(dict(type="SliceDataset", data_root=str(transunet), pipeline=pipeline))
    assert torch.equal(dataset[0]["inputs"], SliceDataset(str(transunet))[0]["inputs"])


def test_keys_for_other_transforms(transunet: Path) -> None:
    dataset = SliceDataset(str(transunet), pipeline=[LoadSlice()])
    results = dataset[3]
    assert results["img"].shape == results["gt_seg_map"].shape == SHAPE
    assert results["img"].dtype == np.float32 and results["gt_seg_map"].dtype == np.uint8
    assert results["seg_fields"] == ["gt_seg_map"]
    assert results["img_shape"] == results["ori_shape"] == SHAPE
    assert (results["case_name"], results["slice_index"]) == ("case0010", 0)


def test_resize_between(transunet: Path) -> None:
    pipeline = [LoadSlice(), dict(type="mmseg.Resize", scale=(20, 24)), PackSlice()]
    item = SliceDataset(str(transunet), pipeline=pipeline)[0]
    assert item["inputs"].shape[1:] == item["labels"].shape == (24, 20)
    assert item["meta"]["ori_shape"] == SHAPE


def test_flip_moves_image_and_label_together(transunet: Path) -> None:
    plain = SliceDataset(str(transunet))[0]
    pipeline = [LoadSlice(), dict(type=RandomFlip, prob=1.0, direction="vertical"), PackSlice()]
    flipped = SliceDataset(str(transunet), pipeline=pipeline)[0]
    assert torch.equal(flipped["inputs"], plain["inputs"].flip(1))
    label = plain["labels"]
    assert torch.equal(flipped["labels"], label.flip(0)) and not torch.equal(label, label.flip(0))


def test_rotation_and_crop_of_mmseg(transunet: Path) -> None:
    pipeline = [
        LoadSlice(),
        dict(type="mmseg.RandomRotFlip", rotate_prob=1.0, flip_prob=0.0),
        dict(type="mmseg.RandomCrop", crop_size=(6, 8)),
        PackSlice(),
    ]
    item = SliceDataset(str(transunet), pipeline=pipeline)[0]
    assert item["inputs"].shape[1:] == item["labels"].shape == (6, 8)
    assert item["inputs"].is_contiguous()


def test_mmseg_can_pack(transunet: Path) -> None:
    pack = dict(type="mmseg.PackSegInputs", meta_keys=("case_name", "slice_index", "ori_shape"))
    theirs = SliceDataset(str(transunet), pipeline=[LoadSlice(), pack])[4]
    ours = SliceDataset(str(transunet))[4]
    prepared = [SlicePreprocessor()(collate_slices([item])) for item in (ours, theirs)]
    assert torch.equal(prepared[0]["inputs"], prepared[1]["inputs"])
    assert torch.equal(prepared[0]["labels"], prepared[1]["labels"]) and prepared[1]["labels"].dtype == torch.uint8
    assert prepared[0]["meta"] == [dict(prepared[1]["meta"][0])]


def test_packing_takes_a_channel_axis_and_double_precision() -> None:
    image = np.random.default_rng(0).random((4, 6))
    results = dict(
        img=image[..., None], gt_seg_map=np.eye(4, 6, dtype=np.uint8), case_name="a", slice_index=0, ori_shape=(4, 6)
    )
    item = PackSlice()(results)
    assert item["inputs"].dtype == torch.float32
    np.testing.assert_array_equal(item["inputs"][0].numpy(), image.astype(np.float32))


def test_slices_resized_as_transunet_does(transunet: Path) -> None:
    plain, item = (SliceDataset(str(transunet), size=size)[1] for size in (None, (6, 25)))
    image, label = plain["inputs"][0].numpy(), plain["labels"].numpy()
    assert np.array_equal(item["inputs"][0].numpy(), zoom(image, (0.5, 2.5), order=3))
    assert np.array_equal(item["labels"].numpy(), zoom(label, (0.5, 2.5), order=0))
    assert item["meta"]["ori_shape"] == SHAPE


def test_cases_resized_when_they_are_read_keep_their_label(transunet: Path) -> None:
    plain, item = (CaseDataset(str(transunet), size=size)[0] for size in (None, (6, 25)))
    assert item["inputs"].shape == (3, 1, 6, 25)
    assert torch.equal(item["labels"], plain["labels"]) and item["meta"] == plain["meta"]


@pytest.mark.parametrize("around", [1, 2])
def test_neighbours_of_a_slice_and_of_a_case_are_the_same(transunet: Path, around: int) -> None:
    spec = dict(neighbours=around)
    volume = CaseDataset(str(transunet), split="train", spec=spec)[0]["inputs"]
    single = CaseDataset(str(transunet), split="train")[0]["inputs"]
    slices = SliceDataset(str(transunet), spec=spec)
    assert volume.shape == (3, 2 * around + 1, *SHAPE)
    for index in range(3):
        expected = [single[min(max(index + step, 0), 2), 0] for step in range(-around, around + 1)]
        assert torch.equal(slices[index]["inputs"], torch.stack(expected))
        assert torch.equal(volume[index], torch.stack(expected))
    assert slices.spec.num_channels == 2 * around + 1


def test_neighbours_need_every_slice(transunet: Path) -> None:
    (transunet / "train_npz" / "case0005_slice001.npz").unlink()
    assert len(SliceDataset(str(transunet))) == 4
    with pytest.raises(UserError, match=r"case0005 lacks the slices 1, but neighbours=1"):
        SliceDataset(str(transunet), spec=dict(neighbours=1))
    with pytest.raises(UserError, match=r"case0005 lacks the slices 1: what is left would be taken for neighbours"):
        CaseDataset(str(transunet), split="train")[0]


def test_neighbours_need_one_size(transunet: Path) -> None:
    write_npz(transunet, "case0005", 1, image=np.zeros((8, 8)), label=np.zeros((8, 8)))
    with pytest.raises(UserError, match=r"case0005: its slices differ in size .*\(8, 8\).*: neighbours=1 needs one"):
        SliceDataset(str(transunet), spec=dict(neighbours=1))[0]


@pytest.mark.parametrize("name", ["LoadImageFromFile", "LoadAnnotations"])
def test_a_pipeline_that_reads_other_data_is_refused(transunet: Path, name: str) -> None:
    with pytest.raises(UserError, match=f"dataset.pipeline has {name}, .*Here LoadSlice"):
        SliceDataset(str(transunet), pipeline=[dict(type=name), dict(type="PackSegInputs")])
