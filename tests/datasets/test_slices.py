"""Training slices in both layouts."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from synapse_folders import SHAPE, TRAIN, grey, slice_arrays, write_npz
from torch.utils.data import DataLoader

from medseg_kd.datasets import SliceDataset
from medseg_kd.errors import UserError

KEYS = [(case, index) for case, count in TRAIN.items() for index in range(count)]


def keys(dataset: SliceDataset) -> list[tuple[str, int]]:
    """Case and slice index of every item's entry."""
    entries = [dataset.get_data_info(index) for index in range(len(dataset))]
    return [(entry["case_name"], entry["slice_index"]) for entry in entries]


def check_items(dataset: SliceDataset) -> None:
    """Every slice is there once, in order, with its own pixels."""
    assert keys(dataset) == KEYS
    for item, (case, index) in zip(dataset, KEYS, strict=True):
        image, label = slice_arrays(case, index)
        assert item["inputs"].shape == (1, *SHAPE) and item["inputs"].dtype == torch.float32
        # An image file keeps 8 bits; a JPEG of one value keeps it to a step.
        np.testing.assert_allclose(item["inputs"][0].numpy(), image, atol=1.5 / 255)
        assert item["labels"].dtype == torch.uint8
        np.testing.assert_array_equal(item["labels"].numpy(), label)
        assert item["meta"] == dict(case_name=case, slice_index=index, ori_shape=SHAPE)


def test_transunet(transunet: Path) -> None:
    dataset = SliceDataset(str(transunet))
    check_items(dataset)
    assert dataset[0]["inputs"].unique().item() == pytest.approx(grey("case0005", 0), abs=1e-7)


def test_images(images: Path) -> None:
    check_items(SliceDataset(str(images)))


def test_image_test_split_has_slices(images: Path) -> None:
    dataset = SliceDataset(str(images), split="test")
    assert keys(dataset) == [("case0008", 0), ("case0008", 1), ("case0008", 2), ("case0022", 0), ("case0022", 1)]


def test_split_list_decides(transunet: Path) -> None:
    names = transunet / "lists" / "lists_Synapse" / "train.txt"
    names.parent.mkdir(parents=True)
    names.write_text("case0010_slice001\ncase0005_slice002\n\n")
    assert keys(SliceDataset(str(transunet))) == [("case0005", 2), ("case0010", 1)]


def test_split_list_names_a_missing_file(transunet: Path) -> None:
    names = transunet / "lists" / "mine" / "train.txt"
    names.parent.mkdir(parents=True)
    names.write_text("case0005_slice000\ncase0005_slice099\n")
    with pytest.raises(UserError, match=r"case0005_slice099 missing"):
        SliceDataset(str(transunet))


def test_empty_split_list(transunet: Path) -> None:
    names = transunet / "lists" / "lists_Synapse" / "train.txt"
    names.parent.mkdir(parents=True)
    names.write_text("\n")
    with pytest.raises(UserError, match=r"train\.txt names nothing"):
        SliceDataset(str(transunet))


def test_cases_and_exclude_cases(transunet: Path) -> None:
    root = str(transunet)
    assert {case for case, _ in keys(SliceDataset(root, cases=["case0010"]))} == {"case0010"}
    assert {case for case, _ in keys(SliceDataset(root, exclude_cases=["case0010"]))} == {"case0005"}
    with pytest.raises(UserError, match=r"no case case0099; it holds case0005, case0010"):
        SliceDataset(root, cases=["case0099"])
    with pytest.raises(UserError, match="no case case0098"):
        SliceDataset(root, exclude_cases=["case0098"])
    with pytest.raises(UserError, match="no case is left"):
        SliceDataset(root, exclude_cases=["case0005", "case0010"])


def test_missing_folder_tells_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        SliceDataset(str(tmp_path / "absent"))
    for part in (str(tmp_path / "absent"), "dataset.data_root", "tools/make_phantom.py", "docs/data.md"):
        assert part in str(error.value)


def test_folder_without_data(transunet: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    (empty / "train_npz").mkdir(parents=True)
    (empty / "train_npz" / "README.txt").write_text("no slices")
    with pytest.raises(UserError, match=r"(?s)no train split in the format.*transunet: train_npz/"):
        SliceDataset(str(empty))
    with pytest.raises(
        UserError, match=r"no train split in the format\n  images: img_dir/<split>/.*\. Set .*data_root"
    ):
        SliceDataset(str(transunet), format="images")


def test_wrong_options(transunet: Path) -> None:
    with pytest.raises(UserError, match="'validation', expected one of train, val, test"):
        SliceDataset(str(transunet), split="validation")
    with pytest.raises(UserError, match="dataset.format is 'dicom', expected auto, .*transunet.* or a class"):
        SliceDataset(str(transunet), format="dicom")


def test_options_of_other_types(transunet: Path) -> None:
    with pytest.raises(UserError, match=r"dataset.spec is \['RGB'\]: expected a dict"):
        SliceDataset(str(transunet), spec=["RGB"])
    with pytest.raises(UserError, match=r"dataset.cases is \[5\]: expected a list of case names"):
        SliceDataset(str(transunet), cases=[5])
    assert SliceDataset(str(transunet), exclude_cases=None).case_names == ["case0005", "case0010"]


def test_name_without_a_slice_number(transunet: Path) -> None:
    (transunet / "train_npz" / "case0005_slice000.npz").rename(transunet / "train_npz" / "case0005.npz")
    with pytest.raises(UserError, match=r"case0005\.npz: the name does not tell case and slice"):
        SliceDataset(str(transunet))


def test_image_without_its_label(images: Path) -> None:
    label = next((images / "ann_dir" / "train").rglob("*.png"))
    label.unlink()
    with pytest.raises(UserError, match=rf"lacks the label of .*{label.stem}"):
        SliceDataset(str(images))


@pytest.mark.parametrize("damage", ["cut", "garbled", "not a zip", "other content"])
def test_damaged_npz(transunet: Path, damage: str) -> None:
    path = write_npz(transunet, "case0005", 0, image=np.random.default_rng(0).random((64, 64), np.float32))
    content = path.read_bytes()
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "garbled":
        path.write_bytes(content[:3000] + b"\xff" * 200 + content[3200:])
    elif damage == "not a zip":
        path.write_bytes(b"")
    else:
        with path.open("wb") as file:
            np.save(file, np.zeros(SHAPE))
    with pytest.raises(UserError, match=r"case0005_slice000\.npz cannot be read .*copy or prepare it again"):
        SliceDataset(str(transunet))[0]


@pytest.mark.parametrize(
    ("replaced", "message"),
    [
        ({"image": np.full(SHAPE, 1.01, np.float32)}, r"\[1\.01, 1\.01\], expected \[0, 1\]"),
        ({"image": np.full(SHAPE, -0.01, np.float32)}, r"\[-0\.01, -0\.01\], expected \[0, 1\]"),
        ({"image": np.full(SHAPE, np.nan, np.float32)}, "120 of 120 image values are NaN or infinite"),
        ({"image": np.zeros((4, 4), np.float32)}, r"image \(4, 4\) and label \(12, 10\)"),
        ({"image": np.zeros((0, 4)), "label": np.zeros((0, 4))}, "not empty"),
        ({"label": np.full(SHAPE, 9, np.float32)}, r"label values 9 are none of the 9 classes 0 to 8 \(background, "),
        ({"label": np.full(SHAPE, 256, np.float32)}, "label values 256 are none"),
        ({"label": np.full(SHAPE, -1, np.int8)}, "label values -1 are none"),
        ({"label": np.full(SHAPE, 1.5, np.float32)}, r"label values 1\.5 are none"),
        ({"label": np.full(SHAPE, np.nan, np.float32)}, "label values nan are none"),
        ({"spacing": np.array([1.0, 0.0, 1.0])}, r"spacing \(1\.0, 0\.0, 1\.0\), expected three positive"),
        ({"spacing": np.array([1.0, 1.0])}, "expected three positive"),
    ],
)
def test_content_out_of_range(transunet: Path, replaced: dict[str, np.ndarray], message: str) -> None:
    write_npz(transunet, "case0005", 0, **replaced)
    with pytest.raises(UserError, match=rf"case0005_slice000\.npz.*: .*{message}"):
        SliceDataset(str(transunet))[0]


def test_rounding_beyond_the_range_is_let_through(transunet: Path) -> None:
    write_npz(transunet, "case0005", 0, image=np.full(SHAPE, 1.0005, np.float32))
    assert SliceDataset(str(transunet))[0]["inputs"].max() > 1


def test_the_damaged_one_of_image_and_label_is_named(images: Path) -> None:
    label = sorted((images / "ann_dir" / "train").rglob("*.png"))[0]
    label.write_bytes(label.read_bytes()[:40])
    with pytest.raises(UserError, match=rf"ann_dir.*{label.name} cannot be read"):
        SliceDataset(str(images))[0]


def test_deeper_pixels_are_refused(images: Path) -> None:
    image = sorted((images / "img_dir" / "train").rglob("*.*"))[0]
    Image.fromarray(np.full(SHAPE, 40000, np.uint16)).save(image, format="png")
    with pytest.raises(
        UserError, match=rf"{image.name}, channel grey: pixels are uint16, but the channel's rule is RGB8"
    ):
        SliceDataset(str(images))[0]


def test_classes_come_from_the_config(transunet: Path) -> None:
    (transunet / "manifest.json").unlink()
    dataset = SliceDataset(str(transunet), metainfo=dict(classes=("background", "heart")))
    assert dataset.metainfo["classes"] == ("background", "heart")
    with pytest.raises(UserError, match="label values 2 are none of the 2 classes"):
        dataset[1]


def test_phantom_is_called_what_it_is(phantom: Path, transunet: Path) -> None:
    assert SliceDataset(str(phantom)).metainfo["note"].startswith("synthetic phantom")
    assert "note" not in SliceDataset(str(transunet)).metainfo


def test_a_spawned_worker_reads_the_same(transunet: Path) -> None:
    dataset = SliceDataset(str(transunet))
    loader = DataLoader(dataset, batch_size=None, num_workers=1, multiprocessing_context="spawn")
    for here, there in zip(dataset, loader, strict=True):
        assert torch.equal(here["inputs"], there["inputs"])


def test_pickled(transunet: Path) -> None:
    dataset = SliceDataset(str(transunet))
    check_items(pickle.loads(pickle.dumps(dataset)))
