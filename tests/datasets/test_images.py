"""Image folders beyond Synapse: colour, 16 bits, palettes, masks in black and white, other names of folders."""

import os
import zlib
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from PIL import ExifTags, Image

from medseg_kd.datasets import CaseDataset, SliceDataset
from medseg_kd.errors import UserError

RNG = np.random.default_rng(0)
PHOTO = RNG.integers(0, 256, (10, 12, 3), dtype=np.uint8)
MASK = (PHOTO[..., 0] > 128).astype(np.uint8)
BINARY = ("background", "lesion")


def write(root: Path, name: str, image: Any, label: Any, split: str = "train", suffix: str = ".png") -> None:
    """One image and its label; arrays or Pillow's images."""
    for folder, pixels, end in (("img_dir", image, suffix), ("ann_dir", label, ".png")):
        path = root / folder / split / f"{name}{end}"
        path.parent.mkdir(parents=True, exist_ok=True)
        (Image.fromarray(pixels) if isinstance(pixels, np.ndarray) else pixels).save(path)


def first(root: Path, **spec: Any) -> dict[str, Any]:
    return SliceDataset(str(root), spec={"classes": BINARY, **spec})[0]


def test_colour(tmp_path: Path) -> None:
    write(tmp_path, "ISIC_0001", PHOTO, MASK)
    item = first(tmp_path, channels="RGB")
    np.testing.assert_array_equal(
        item["inputs"].numpy(), np.moveaxis(PHOTO.astype(np.float32) / np.float32(255), -1, 0)
    )
    np.testing.assert_array_equal(item["labels"].numpy(), MASK)
    assert item["meta"] == dict(case_name="ISIC_0001", slice_index=0, ori_shape=(10, 12))


def test_colour_is_not_lost(tmp_path: Path) -> None:
    """Red and green organs of one brightness would become one grey."""
    write(tmp_path, "a", PHOTO, MASK)
    with pytest.raises(
        UserError, match=r"a\.png is a colour image, but dataset.spec knows one channel.*channels='RGB'"
    ):
        first(tmp_path)


def test_a_grey_image_among_photographs(tmp_path: Path) -> None:
    write(tmp_path, "a", PHOTO[..., 0], MASK)
    item = first(tmp_path, channels="RGB")
    assert item["inputs"].shape == (3, 10, 12) and (item["inputs"] == item["inputs"][:1]).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency(tmp_path: Path, mode: str) -> None:
    opaque = Image.fromarray(PHOTO[..., 0]).convert(mode)
    write(tmp_path, "a", opaque, MASK)
    assert first(tmp_path)["inputs"].shape == (1, 10, 12)
    opaque.putalpha(100)
    write(tmp_path, "a", opaque, MASK)
    with pytest.raises(UserError, match=r"a\.png is transparent in places"):
        first(tmp_path)


def test_sixteen_bits(tmp_path: Path) -> None:
    deep = RNG.integers(0, 4096, (10, 12)).astype(np.uint16)
    write(tmp_path, "a", deep, MASK)
    item = first(tmp_path, channels=dict(MR=dict(type="Window", low=0, high=4095)))
    np.testing.assert_allclose(item["inputs"][0].numpy(), deep / 4095, atol=1e-6)
    with pytest.raises(UserError, match=r"a\.png, channel grey: pixels are uint16.*RGB8"):
        first(tmp_path)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_colours_of_sixteen_bits_are_not_cut_to_eight(tmp_path: Path, suffix: str) -> None:
    write(tmp_path, "a", PHOTO, MASK, suffix=suffix)
    deep = sitk.GetImageFromArray(PHOTO.astype(np.uint16) * 16, isVector=True)
    sitk.WriteImage(deep, str(tmp_path / f"img_dir/train/a{suffix}"))
    with pytest.raises(UserError, match=r"a\.\w+ has several channels of 16 bits, of which 8 would be read"):
        first(tmp_path, channels=dict.fromkeys(("red", "green", "blue"), dict(type="Window", low=0, high=4095)))


def test_a_photograph_that_is_to_be_turned(tmp_path: Path) -> None:
    write(tmp_path, "a", PHOTO, MASK, suffix=".jpg")
    exif = Image.Exif()
    for turn, refused in ((1, False), (3, True)):
        exif[ExifTags.Base.Orientation] = turn
        Image.fromarray(PHOTO).save(tmp_path / "img_dir/train/a.jpg", exif=exif)
        with pytest.raises(UserError, match="EXIF orientation 3") if refused else nullcontext():
            first(tmp_path, channels="RGB")


def test_a_label_of_real_numbers_keeps_its_values(tmp_path: Path) -> None:
    write(tmp_path, "a", PHOTO[..., 0], MASK)
    (tmp_path / "ann_dir/train/a.png").unlink()
    label = tmp_path / "ann_dir/train/a.tif"
    for factor, value in ((0.7, "0.7"), (300.0, "300")):
        Image.fromarray(MASK.astype(np.float32) * np.float32(factor)).save(label)
        with pytest.raises(UserError, match=f"label values {value} are none of the 2 classes"):
            first(tmp_path, ignore_label=255)
    Image.fromarray(MASK.astype(np.float32)).save(label)
    assert np.array_equal(first(tmp_path)["labels"], MASK)


def test_a_palette_label_holds_its_indices(tmp_path: Path) -> None:
    label = Image.fromarray(MASK, mode="P")
    label.putpalette([0, 0, 0, 200, 30, 30])
    write(tmp_path, "a", PHOTO[..., 0], label)
    np.testing.assert_array_equal(first(tmp_path)["labels"].numpy(), MASK)


def test_a_coloured_label(tmp_path: Path) -> None:
    write(tmp_path, "a", PHOTO[..., 0], PHOTO)
    with pytest.raises(UserError, match=r"ann_dir/train/a\.png is a colour image: a label holds the class value"):
        first(tmp_path)


def test_masks_in_black_and_white(tmp_path: Path) -> None:
    write(tmp_path, "a", PHOTO[..., 0], MASK * np.uint8(255))
    np.testing.assert_array_equal(first(tmp_path)["labels"].numpy(), MASK)
    with pytest.raises(
        UserError, match=r"ann_dir/train/a\.png: label values 255 are none of the 3 classes .*ignore_label"
    ):
        first(tmp_path, classes=("background", "a", "b"))


def test_pixels_to_ignore(tmp_path: Path) -> None:
    label = MASK.copy()
    label[:3] = 77
    write(tmp_path, "a", PHOTO[..., 0], label)
    item = first(tmp_path, ignore_label=77)
    np.testing.assert_array_equal(item["labels"].numpy(), np.where(label == 77, 255, label))
    write(tmp_path, "a", PHOTO[..., 0], MASK * np.uint8(255))
    assert set(first(tmp_path, ignore_label=255)["labels"].unique().tolist()) == {0, 255}


@pytest.mark.parametrize(
    ("images", "labels"),
    [("images/train", "labels/train"), ("images/training", "masks/training"), ("train/images", "train/masks")],
)
def test_other_names_of_folders(tmp_path: Path, images: str, labels: str) -> None:
    write(tmp_path, "a", PHOTO[..., 0], MASK)
    for old, new in (("img_dir/train", images), ("ann_dir/train", labels)):
        (tmp_path / new).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / old).rename(tmp_path / new)
    np.testing.assert_array_equal(first(tmp_path)["labels"].numpy(), MASK)


def test_without_folders_for_the_splits(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path, name, PHOTO[..., 0], MASK)
    for kind in ("ann_dir", "img_dir"):
        for path in (tmp_path / kind / "train").iterdir():
            path.rename(tmp_path / kind / path.name)
        with pytest.raises(UserError, match="holds no test split"):  # as long as a folder of a split is there
            CaseDataset(str(tmp_path), spec=dict(classes=BINARY))
        (tmp_path / kind / "train").rmdir()
    assert CaseDataset(str(tmp_path), cases=["b"], spec=dict(classes=BINARY)).case_names == ["b"]
    assert SliceDataset(str(tmp_path), exclude_cases=["b"], spec=dict(classes=BINARY)).case_names == ["a"]


def test_a_test_split_beside_one_for_validation(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        write(tmp_path, split, PHOTO[..., 0], MASK, split)
    spec = dict(classes=BINARY)
    for split in ("train", "val", "test"):
        assert CaseDataset(str(tmp_path), split, spec=spec).case_names == [split]


def test_without_labels(tmp_path: Path) -> None:
    write(tmp_path, "a", PHOTO[..., 0], MASK, "test")
    (tmp_path / "ann_dir/test/a.png").unlink()
    (tmp_path / "ann_dir/test").rmdir()
    (item,) = CaseDataset(str(tmp_path), spec=dict(classes=BINARY))
    assert item["labels"] is None and item["inputs"].shape == (1, 1, 10, 12)
    with pytest.raises(UserError, match="case a has no label, so it cannot be trained on"):
        SliceDataset(str(tmp_path), "test", spec=dict(classes=BINARY))


def test_twins(tmp_path: Path) -> None:
    write(tmp_path, "a", PHOTO[..., 0], MASK)
    write(tmp_path, "a", PHOTO[..., 0], MASK, suffix=".jpg")
    with pytest.raises(UserError, match=r"a\.jpg and a\.png are the same slice: keep one"):
        first(tmp_path)


def test_two_files_of_one_slice_number(tmp_path: Path) -> None:
    for name in ("case1_slice1", "case1_slice001"):
        write(tmp_path, name, PHOTO[..., 0], MASK)
    with pytest.raises(UserError, match=r"case case1 has slice 1 more than once: .*slice001\.png and .*slice1\.png"):
        first(tmp_path)


def test_hidden_files_are_no_data(tmp_path: Path) -> None:
    write(tmp_path, "a", PHOTO[..., 0], MASK)
    (tmp_path / "img_dir/train/._a.png").write_bytes(b"Mac OS X")
    assert SliceDataset(str(tmp_path), spec=dict(classes=BINARY)).case_names == ["a"]


def test_hidden_folders_are_no_data(tmp_path: Path) -> None:
    for kind in ("a", ".ipynb_checkpoints/a-checkpoint1"):
        write(tmp_path, kind, PHOTO[..., 0], MASK)
    assert SliceDataset(str(tmp_path), spec=dict(classes=BINARY)).case_names == ["a"]


def test_linked_folders_are_data(tmp_path: Path) -> None:
    write(tmp_path, "p1/1", PHOTO[..., 0], MASK)
    write(tmp_path / "elsewhere", "1", PHOTO[..., 0], MASK)
    for kind in ("img_dir", "ann_dir"):
        (tmp_path / kind / "train/p2").symlink_to(tmp_path / "elsewhere" / kind / "train")
    assert SliceDataset(str(tmp_path), spec=dict(classes=BINARY)).case_names == ["p1", "p2"]
    (tmp_path / "img_dir/train/round").symlink_to(tmp_path / "img_dir")
    assert SliceDataset(str(tmp_path), spec=dict(classes=BINARY)).case_names == ["p1", "p2"]
    (tmp_path / "img_dir/train/p3.png").symlink_to(tmp_path / "unmounted.png")
    with pytest.raises(UserError, match=r"p3\.png is a link to .*unmounted\.png, which is not there"):
        SliceDataset(str(tmp_path), spec=dict(classes=BINARY))


def test_labels_in_capitals(tmp_path: Path) -> None:
    write(tmp_path, "A", PHOTO[..., 0], MASK)
    for path in (tmp_path / "img_dir/train/A.png", tmp_path / "ann_dir/train/A.png"):
        path.rename(path.with_suffix(".PNG"))
    assert np.array_equal(first(tmp_path)["labels"], MASK)


def test_two_folders_of_one_case_name(tmp_path: Path) -> None:
    for name in ("a_b/1", "a/b/2"):
        write(tmp_path, name, PHOTO[..., 0], MASK)
    with pytest.raises(UserError, match=r"case a_b has slices in .*train/a/b and .*train/a_b"):
        first(tmp_path)


@pytest.mark.parametrize(
    "content", [b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"GIF89a", b"\xff\xd8\xff\xe0"]
)
def test_a_label_is_what_its_name_says(tmp_path: Path, content: bytes) -> None:
    """PostScript would start another program, JPEG would blend the classes."""
    write(tmp_path, "a", PHOTO[..., 0], MASK)
    (tmp_path / "ann_dir/train/a.png").write_bytes(content)
    with pytest.raises(UserError, match=r"ann_dir/train/a\.png cannot be read"):
        first(tmp_path)


@pytest.mark.parametrize("compression", ["jpeg", "tiff_lzw"])
def test_a_label_is_not_packed_with_losses(tmp_path: Path, compression: str) -> None:
    write(tmp_path, "a", PHOTO[..., 0], MASK)
    (tmp_path / "ann_dir/train/a.png").unlink()
    Image.fromarray(MASK).save(tmp_path / "ann_dir/train/a.tif", compression=compression)
    refused = pytest.raises(UserError, match=r"a\.tif is packed with losses, which blends the classes")
    with refused if compression == "jpeg" else nullcontext():
        first(tmp_path)


def test_a_flipped_bit_in_a_png(tmp_path: Path) -> None:
    """Pillow decodes to the last row and compares no checksum on the way."""
    write(tmp_path, "a", PHOTO[..., 0], MASK)
    path = tmp_path / "ann_dir/train/a.png"
    whole = path.read_bytes()
    start = whole.index(b"IDAT") + 4
    for place in range(start, whole.index(b"IEND") - 4):
        content = bytearray(whole)
        content[place] ^= 16
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"ann_dir/train/a\.png cannot be read"):
            first(tmp_path)


def test_an_image_of_too_many_pixels(tmp_path: Path) -> None:
    write(tmp_path, "a", PHOTO[..., 0], MASK)
    path = tmp_path / "img_dir/train/a.png"
    content = bytearray(path.read_bytes())
    content[16:24] = (1 << 16).to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"img_dir/train/a\.png is too large: .*4294967296 pixels"):
        first(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    write(tmp_path, "a", PHOTO[..., 0], MASK)
    data = SliceDataset(str(tmp_path), spec=dict(classes=BINARY))
    (tmp_path / "img_dir/train/a.png").unlink()
    os.mkfifo(tmp_path / "img_dir/train/a.png")
    with pytest.raises(UserError, match=r"a\.png is no file that can be read"):
        data[0]


def test_no_classes_are_assumed(tmp_path: Path) -> None:
    write(tmp_path, "a", PHOTO[..., 0], MASK)
    with pytest.raises(UserError, match=r"does not tell the classes of its images, .* dataset.spec=dict\(classes="):
        SliceDataset(str(tmp_path))
