"""Whole cases in both layouts."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from synapse_folders import SHAPE, TEST, TRAIN, slice_arrays, write_h5, write_npz

from medseg_kd.datasets import CaseDataset
from medseg_kd.errors import UserError


def check_items(dataset: CaseDataset, cases: dict[str, int]) -> None:
    """Every case is there once, its slices in order."""
    assert [dataset.get_data_info(index)["case_name"] for index in range(len(dataset))] == list(cases)
    for item, (case, count) in zip(dataset, cases.items(), strict=True):
        images, labels = zip(*(slice_arrays(case, index) for index in range(count)), strict=True)
        label = item["labels"]
        assert item["inputs"].shape == (count, 1, *SHAPE) and item["inputs"].dtype == torch.float32
        np.testing.assert_allclose(item["inputs"][:, 0].numpy(), np.stack(images), atol=1.5 / 255)
        assert label.dtype == torch.uint8
        np.testing.assert_array_equal(label.numpy(), np.stack(labels))
        assert item["meta"]["case_name"] == case
        assert item["meta"]["ori_shape"] == SHAPE
        assert item["meta"]["spacing"] is None


def test_transunet(transunet: Path) -> None:
    check_items(CaseDataset(str(transunet)), TEST)


def test_training_slices_make_cases(transunet: Path) -> None:
    check_items(CaseDataset(str(transunet), split="train"), TRAIN)


def test_images(images: Path) -> None:
    check_items(CaseDataset(str(images)), TEST)
    check_items(CaseDataset(str(images), split="train"), TRAIN)


def test_slices_are_stacked_by_number(transunet: Path) -> None:
    for path in (transunet / "train_npz").glob("case0005_*"):
        path.unlink()
    for index in range(12):
        write_npz(transunet, "case0005", index, label=np.full(SHAPE, index % 9, np.float32)).rename(
            transunet / "train_npz" / f"case0005_slice{index}.npz"
        )
    volume = CaseDataset(str(transunet), split="train", cases=["case0005"])[0]["labels"]
    assert volume[:, 0, 0].tolist() == [index % 9 for index in range(12)]


def test_spacing_of_volumes(transunet: Path) -> None:
    with h5py.File(transunet / "test_vol_h5" / "case0008.npy.h5", "a") as file:
        file.attrs["spacing"] = (3.0, 0.7, 0.8)
    with h5py.File(transunet / "test_vol_h5" / "case0022.npy.h5", "a") as file:
        file["spacing"] = np.array([5.0, 0.5, 0.6])
    assert [item["meta"]["spacing"] for item in CaseDataset(str(transunet))] == [(3.0, 0.7, 0.8), (5.0, 0.5, 0.6)]


def test_geometry_of_volumes(transunet: Path) -> None:
    with h5py.File(transunet / "test_vol_h5" / "case0008.npy.h5", "a") as file:
        file.attrs.update(origin=(-1.5, 2.0, 30.0), direction=np.eye(3).ravel(), original_orientation="RAS")
    placed, unplaced = (item["meta"]["geometry"] for item in CaseDataset(str(transunet)))
    assert placed == {
        "origin": (-1.5, 2.0, 30.0),
        "direction": (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0),
        "orientation": "RAS",
    }
    assert unplaced is None


def test_spacing_of_training_slices(transunet: Path) -> None:
    for index in range(TRAIN["case0005"]):
        write_npz(transunet, "case0005", index, spacing=np.array([3.0, 0.7, 0.8]))
    assert CaseDataset(str(transunet), split="train")[0]["meta"]["spacing"] == (3.0, 0.7, 0.8)


def test_phantom_written_by_the_project(phantom: Path) -> None:
    dataset = CaseDataset(str(phantom))
    spacing = dataset[0]["meta"]["spacing"]
    assert dataset[0]["inputs"].shape == (4, 1, 64, 64)
    assert len(spacing) == 3 and all(type(size) is float for size in spacing)
    assert dataset.metainfo["note"].startswith("synthetic phantom")


def test_held_out_training_cases(transunet: Path) -> None:
    root = str(transunet)
    assert len(CaseDataset(root, split="train", cases=["case0010"])) == 1
    assert len(CaseDataset(root, exclude_cases=["case0022"])) == 1
    with pytest.raises(UserError, match=r"no case case0005; it holds case0008, case0022"):
        CaseDataset(root, cases=["case0005"])


def test_split_list_decides(transunet: Path) -> None:
    names = transunet / "lists" / "lists_Synapse" / "test_vol.txt"
    names.parent.mkdir(parents=True)
    names.write_text("case0022\n")
    check_items(CaseDataset(str(transunet)), {"case0022": 2})
    names.write_text("case0022\ncase0001\n")
    with pytest.raises(UserError, match=r"case0001 missing"):
        CaseDataset(str(transunet))


def test_volume_cut_short(transunet: Path) -> None:
    path = transunet / "test_vol_h5" / "case0008.npy.h5"
    path.write_bytes(path.read_bytes()[:1500])
    with pytest.raises(UserError, match=r"case0008\.npy\.h5 cannot be read .*copy or prepare it again"):
        CaseDataset(str(transunet))


def test_volume_without_a_label(transunet: Path) -> None:
    with h5py.File(transunet / "test_vol_h5" / "case0008.npy.h5", "a") as file:
        del file["label"]
    with pytest.raises(UserError, match=r"case0008\.npy\.h5 holds image, expected image and label: no label"):
        CaseDataset(str(transunet))


@pytest.mark.parametrize(
    ("replaced", "message"),
    [
        ({"label": np.full((3, *SHAPE), 13.0)}, "label values 13 are none of the 9 classes"),
        ({"image": np.full((3, *SHAPE), 1000.0)}, r"\[1000, 1000\], expected \[0, 1\]"),
        ({"image": np.zeros((3, *SHAPE)), "label": np.zeros(SHAPE)}, "two 3-D arrays"),
        ({"spacing": np.array(2.0)}, "expected three positive numbers"),
    ],
)
def test_content_out_of_range(transunet: Path, replaced: dict[str, np.ndarray], message: str) -> None:
    write_h5(transunet, "case0008", 3, **replaced)
    with pytest.raises(UserError, match=rf"case0008\.npy\.h5.*: .*{message}"):
        CaseDataset(str(transunet))[0]


def test_slices_of_a_case_differ_in_size(transunet: Path) -> None:
    write_npz(transunet, "case0005", 1, image=np.zeros((8, 8)), label=np.zeros((8, 8)))
    with pytest.raises(UserError, match=r"case0005: its slices differ in size \(\[\(1, 8, 8\), \(1, 12, 10\)\]\)"):
        CaseDataset(str(transunet), split="train")[0]


def test_test_mode_may_be_said(transunet: Path) -> None:
    assert CaseDataset(str(transunet)).test_mode
    assert CaseDataset(str(transunet), test_mode=True).test_mode
