"""Training cases without a label, or whose label is not read."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from synapse_folders import SHAPE, TRAIN, slice_arrays, write_images, write_npz
from torch.utils.data import DataLoader
from volume_files import ct_and_label, write_volume

from medseg_kd.datasets import CaseDataset, SliceDataset
from medseg_kd.datasets.cached_slices import cached_loader
from medseg_kd.datasets.configured import configured_folders
from medseg_kd.errors import UserError

ONE = ["case0005"]
CPU = torch.device("cpu")


def labels_of(dataset: SliceDataset) -> dict[str, torch.Tensor]:
    """The labels of each case, its slices stacked."""
    items = list(dataset)
    names = dict.fromkeys(item["meta"]["case_name"] for item in items)
    return {name: torch.stack([i["labels"] for i in items if i["meta"]["case_name"] == name]) for name in names}


def test_labels_of_other_cases_are_not_read(transunet: Path) -> None:
    dataset = SliceDataset(str(transunet), labelled=ONE, with_unlabelled=True)
    assert dataset.unlabelled == ["case0010"]
    labels, all_labels = labels_of(dataset), labels_of(SliceDataset(str(transunet)))
    assert torch.equal(labels["case0005"], all_labels["case0005"])
    assert labels["case0010"].shape == (TRAIN["case0010"], *SHAPE) and labels["case0010"].dtype == torch.uint8
    assert (labels["case0010"] == 255).all() and not (all_labels["case0010"] == 255).any()
    for item, whole in zip(dataset, SliceDataset(str(transunet)), strict=True):
        assert torch.equal(item["inputs"], whole["inputs"])


def test_what_a_transform_brings_in_from_outside_is_no_label(transunet: Path) -> None:
    """The padding of a rotation is background, of a slice without a label it is ignored too."""
    rotate = dict(type="mmseg.RandomRotate", prob=1, degree=45, seg_pad_val=0)
    dataset = SliceDataset(
        str(transunet),
        labelled=ONE,
        with_unlabelled=True,
        pipeline=[dict(type="LoadSlice"), rotate, dict(type="PackSlice")],
    )
    assert (labels_of(dataset)["case0010"] == 255).all() and not (labels_of(dataset)["case0005"] == 255).any()


def test_nothing_labels_the_others(transunet: Path) -> None:
    """Then they are left out, and the items are those of these cases alone."""
    dataset, chosen = SliceDataset(str(transunet), labelled=ONE), SliceDataset(str(transunet), cases=ONE)
    assert dataset.case_names == chosen.case_names == ONE
    assert [item["meta"] for item in dataset] == [item["meta"] for item in chosen]
    (folder,) = configured_folders(dict(type=SliceDataset, data_root=str(transunet), labelled=ONE))
    assert [case.name for case in folder.find()] == ONE


def test_slices_that_hold_no_label(transunet: Path) -> None:
    for index in range(TRAIN["case0010"]):
        file = write_npz(transunet, "case0010", index)
        np.savez_compressed(file, image=slice_arrays("case0010", index)[0])
    dataset = SliceDataset(str(transunet), labelled=ONE, with_unlabelled=True)
    assert (labels_of(dataset)["case0010"] == 255).all()
    with pytest.raises(UserError, match="holds image, expected image and label"):
        list(SliceDataset(str(transunet), with_unlabelled=True))


def test_the_cache_of_one_choice_is_not_that_of_another(transunet: Path) -> None:
    def batch(**options) -> dict:
        dataset = SliceDataset(str(transunet), cache="host", **options)
        loader = cached_loader(DataLoader(dataset, batch_size=len(dataset), collate_fn=dataset.collate), CPU)
        return next(iter(loader))

    whole, some = batch(), batch(labelled=ONE, with_unlabelled=True)
    assert torch.equal(whole["inputs"], some["inputs"])
    assert not (whole["labels"] == 255).any()
    assert (some["labels"][TRAIN["case0005"] :] == 255).all()
    assert torch.equal(some["labels"][: TRAIN["case0005"]], whole["labels"][: TRAIN["case0005"]])
    assert torch.equal(batch()["labels"], whole["labels"])
    assert len(list((transunet / ".cache").glob("slices-*.npy"))) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(labelled=["case0007"]), "no case case0007; it holds case0005, case0010"),
        (dict(labelled=5), "dataset.labelled is 5: expected a list of case names"),
        (dict(labelled=[]), "no case is left after dataset.cases, dataset.exclude_cases and dataset.labelled"),
    ],
)
def test_wrong_choices(transunet: Path, options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        SliceDataset(str(transunet), **options)


def volumes(root: Path) -> dict:
    """A folder with patients a01 and b02, of whom only a01 has a label, and how it is opened."""
    for name in ("a01", "b02"):
        image, label = ct_and_label(ord(name[0]), 3)
        write_volume(root / "images" / f"{name}.nii.gz", image)
        if name == "a01":
            write_volume(root / "labels" / f"{name}.nii.gz", label)
    window = {"type": "Window", "low": -100, "high": 300}
    return dict(data_root=str(root), spec=dict(channels={"CT": window}, classes=("background", *"xyz")))


def pictures(root: Path) -> dict:
    """Likewise, of images; a slice each."""
    write_images(root, "train", {"a01": 1, "b02": 1}, folders=False, mode="L", suffix=".png")
    (root / "ann_dir/train/b02_slice000.png").unlink()
    return dict(data_root=str(root), spec=dict(classes=("background", *"xyz")))


@pytest.mark.parametrize("write", [volumes, pictures])
def test_folders_in_which_some_cases_have_no_label(tmp_path: Path, write) -> None:
    options = write(tmp_path)
    dataset = SliceDataset(**options, with_unlabelled=True)
    assert dataset.case_names == ["a01", "b02"] and dataset.unlabelled == ["b02"]
    labels = labels_of(dataset)
    assert (labels["b02"] == 255).all() and not (labels["a01"] == 255).any()
    assert SliceDataset(**options, labelled=["a01"]).case_names == ["a01"]
    # The labelled ones can be validated on, whatever else the folder holds.
    assert CaseDataset(**options, split="train", cases=["a01"])[0]["labels"] is not None
    assert CaseDataset(**options, split="train", cases=["b02"]).unlabelled == ["b02"]
    with pytest.raises(
        UserError, match=r"(no label in .* for b02|lacks the label of .*b02_slice000.png).*teacher_labels"
    ):
        SliceDataset(**options)
    with pytest.raises(UserError, match=r"dataset.labelled names b02, but there is no label. Add it"):
        SliceDataset(**options, labelled=["a01", "b02"], with_unlabelled=True)
    with pytest.raises(
        UserError, match=r"case b02 has no label, so it cannot be trained on.*model.teacher_labels=True"
    ):
        SliceDataset(**options, cases=["b02"])


def test_a_case_half_of_whose_slices_have_a_label(tmp_path: Path) -> None:
    write_images(tmp_path, "train", {"a01": 2}, folders=False, mode="L", suffix=".png")
    (tmp_path / "ann_dir/train/a01_slice001.png").unlink()
    with pytest.raises(UserError, match="case a01: no label for a01_slice001.png, but for its other slices"):
        SliceDataset(str(tmp_path), spec=dict(classes=("background", *"xyz")), with_unlabelled=True)
    shutil.rmtree(tmp_path / "ann_dir")
    assert SliceDataset(str(tmp_path), spec=dict(classes=("background", *"xyz")), with_unlabelled=True).unlabelled
