"""What a data folder holds, where the names and the places of files matter."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from synapse_folders import TEST, TRAIN, write_h5, write_images, write_npz

from medseg_kd.datasets import CaseDataset, SliceDataset
from medseg_kd.datasets.conversion import SYNAPSE_CLASSES
from medseg_kd.datasets.formats import Case, open_folder
from medseg_kd.errors import UserError


def find(root: Path, split: str, name: str = "auto", **options: str) -> list[Case]:
    """The cases of a split."""
    spec = dict(classes=SYNAPSE_CLASSES)
    return open_folder(root, split, name, spec, options).find(split)


def find_slices(root: Path, split: str, name: str = "auto") -> list[tuple[str, int]]:
    """Case and number of all slices."""
    return [(case.name, case.index(place)) for case in find(root, split, name) for place in range(case.size)]


def test_both_layouts_find_the_same(transunet: Path, images: Path) -> None:
    """The fixtures share a folder: ``auto`` takes the TransUNet half of it."""
    expected = [(case, index) for case, count in TRAIN.items() for index in range(count)]
    for name in ("auto", "transunet", "images"):
        assert find_slices(transunet, "train", name) == expected
    for name in ("transunet", "images"):
        assert {case.name: case.size for case in find(images, "test", name)} == TEST


@pytest.mark.parametrize(
    ("name", "case", "index"),
    [
        ("case0031_slice007", "case0031", 7),
        ("case0031_slice_7", "case0031", 7),
        ("patient_slice_2_slice12", "patient_slice_2", 12),
        ("Mr-X_2_slice1000", "Mr-X_2", 1000),
    ],
)
def test_names_that_tell_case_and_slice(tmp_path: Path, name: str, case: str, index: int) -> None:
    write_npz(tmp_path, "case0001", 0).rename(tmp_path / "train_npz" / f"{name}.npz")
    assert find_slices(tmp_path, "train") == [(case, index)]


def test_in_a_folder_a_case_the_folder_names_it(tmp_path: Path) -> None:
    write_images(tmp_path, "train", {"case0005": 1}, folders=True, mode="L", suffix=".png")
    for kind in ("img_dir", "ann_dir"):
        folder = tmp_path / kind / "train"
        (folder / "case0005" / "0.png").rename(folder / "case0005" / "ct_axial-012.png")
    assert find_slices(tmp_path, "train") == [("case0005", 12)]


def test_an_image_by_itself_is_a_case(tmp_path: Path) -> None:
    write_images(tmp_path, "train", {"case0005": 1}, folders=False, mode="L", suffix=".png")
    for kind in ("img_dir", "ann_dir"):
        folder = tmp_path / kind / "train"
        (folder / "case0005_slice000.png").rename(folder / "ISIC_012.png")
    assert find_slices(tmp_path, "train") == [("ISIC_012", 0)]


def test_volumes_with_and_without_npy_in_the_name(tmp_path: Path) -> None:
    write_h5(tmp_path, "case0001", 1)
    path = write_h5(tmp_path, "case0002", 1)
    path.rename(path.with_name("case0002.h5"))
    assert {case.name: case.volume.name for case in find(tmp_path, "test")} == {
        "case0001": "case0001.npy.h5",
        "case0002": "case0002.h5",
    }


@pytest.mark.parametrize("place", ["train_npz/case0001.npy.h5", "train_npz/deeper/case0001_slice000.npz"])
def test_files_that_are_no_slices_are_no_split(tmp_path: Path, place: str) -> None:
    """Volumes among the slices, or slices a folder too deep."""
    (tmp_path / place).parent.mkdir(parents=True)
    (tmp_path / place).touch()
    with pytest.raises(UserError, match=r"(?s)holds no train split in the format.*train_npz/"):
        find_slices(tmp_path, "train")


def test_one_split_without_the_other(tmp_path: Path) -> None:
    write_npz(tmp_path, "case0005", 0)
    assert len(find_slices(tmp_path, "train")) == 1
    with pytest.raises(UserError, match=r"(?s)holds no test split in the format.*test_vol_h5/.*data_root"):
        find(tmp_path, "test")


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(UserError, match="data folder not found"):
        find_slices(tmp_path / "data", "train")


def test_two_lists_of_one_split(transunet: Path) -> None:
    for name in ("lists_Synapse", "mine"):
        (transunet / "lists" / name).mkdir(parents=True)
        (transunet / "lists" / name / "train.txt").write_text("case0005_slice000\n")
    with pytest.raises(UserError, match=r"several lists for one split.*mine.*keep one"):
        find_slices(transunet, "train")
    assert [case.name for case in find(transunet, "test")] == list(TEST)


def test_many_missing_files_are_counted(transunet: Path) -> None:
    names = transunet / "lists" / "lists_Synapse" / "train.txt"
    names.parent.mkdir(parents=True)
    names.write_text("\n".join(f"case0005_slice{index:03d}" for index in range(20)))
    with pytest.raises(UserError, match=r"case0005_slice007 and 12 more missing"):
        find_slices(transunet, "train")


def test_a_string_is_one_case(transunet: Path) -> None:
    """As ``--cfg-options val_dataloader.dataset.cases=case0005`` gives it."""
    assert SliceDataset(str(transunet), cases="case0005").case_names == ["case0005"]
    assert SliceDataset(str(transunet), exclude_cases="case0005").case_names == ["case0010"]


@pytest.mark.parametrize("listed", ["../a", "/etc/a", "a\\b", "C:a", "..", "a\0"])
def test_lists_name_files_of_the_folder(transunet: Path, listed: str) -> None:
    names = transunet / "lists" / "lists_Synapse" / "train.txt"
    names.parent.mkdir(parents=True)
    names.write_text(f"{listed}\n")
    with pytest.raises(UserError, match=r"train\.txt, line 1: .* is no file name"):
        find_slices(transunet, "train")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_lists_in_other_encodings(transunet: Path, encoding: str) -> None:
    names = transunet / "lists" / "lists_Synapse" / "train.txt"
    names.parent.mkdir(parents=True)
    names.write_text("case0005_slice000\r\n", encoding=encoding)
    assert find_slices(transunet, "train") == [("case0005", 0)]
    names.write_bytes("病例".encode("gbk"))
    with pytest.raises(UserError, match=r"train\.txt is no text in UTF-8"):
        find_slices(transunet, "train")


def test_a_slice_that_is_listed_twice(transunet: Path) -> None:
    names = transunet / "lists" / "lists_Synapse" / "train.txt"
    names.parent.mkdir(parents=True)
    names.write_text("case0005_slice000\ncase0005_slice000\n")
    with pytest.raises(UserError, match=r"train\.txt names case0005_slice000 more than once"):
        find_slices(transunet, "train")


def test_two_files_of_one_slice_number(transunet: Path) -> None:
    write_npz(transunet, "case0005", 1).rename(transunet / "train_npz" / "case0005_slice1.npz")
    write_npz(transunet, "case0005", 1)
    with pytest.raises(UserError, match=r"case0005 has slice 1 more than once: .*slice001\.npz and .*slice1\.npz"):
        find_slices(transunet, "train")


def test_hidden_files_are_no_data(transunet: Path) -> None:
    for name in ("train_npz/._case0005_slice000.npz", "test_vol_h5/._case0008.npy.h5"):
        (transunet / name).write_bytes(b"Mac OS X")
    assert len(find_slices(transunet, "train")) == sum(TRAIN.values())
    assert [case.name for case in find(transunet, "test")] == list(TEST)


@pytest.mark.parametrize("shape", [(64, 64, 4), (100, 122, 30)])
def test_volumes_with_their_slices_last(tmp_path: Path, shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(0).random(shape).astype(np.float32)
    write_h5(tmp_path, "case0001", 1, image=image, label=(image > 0.5).astype(np.uint8))
    spec = dict(classes=("background", "organ"))
    with pytest.raises(UserError, match=rf"would be {shape[0]} slices of .*format_options=dict\(axes='HWS'\)"):
        CaseDataset(str(tmp_path), spec=spec)
    (item,) = CaseDataset(str(tmp_path), spec=spec, format_options=dict(axes="HWS"))
    assert np.array_equal(item["inputs"][:, 0].numpy(), np.moveaxis(image, -1, 0))
    assert np.array_equal(item["labels"].numpy(), np.moveaxis(image > 0.5, -1, 0))
    (item,) = CaseDataset(str(tmp_path), spec=spec, format_options=dict(axes="SHW"))
    assert np.array_equal(item["inputs"][:, 0].numpy(), image)
    with pytest.raises(UserError, match="axes is 'SWH', expected one of SHW, HWS"):
        CaseDataset(str(tmp_path), spec=spec, format_options=dict(axes="SWH"))


def test_several_channels_in_one_file(tmp_path: Path) -> None:
    image = np.random.default_rng(0).random((3, 12, 10)).astype(np.float32)
    write_npz(tmp_path, "case0005", 0, image=image)
    write_h5(tmp_path, "case0008", 2, image=np.stack([image, 1 - image]))
    spec = dict(channels=("T1", "T2", "FLAIR"), classes=("background", "a", "b"))
    assert np.array_equal(SliceDataset(str(tmp_path), spec=spec)[0]["inputs"].numpy(), image)
    assert np.array_equal(CaseDataset(str(tmp_path), spec=spec)[0]["inputs"].numpy(), np.stack([image, 1 - image]))
    with pytest.raises(UserError, match=r"slice000\.npz: image .*or 3 channel|channel\(s\), expected 1 \(CT\)"):
        SliceDataset(str(tmp_path), spec=dict(classes=spec["classes"]))[0]


@pytest.mark.parametrize("kind", ["link", "link to a link", "virtual", "external"])
@pytest.mark.parametrize("name", ["image", "spacing"])
def test_links_to_other_files_are_not_followed(transunet: Path, kind: str, name: str) -> None:
    path = transunet / "test_vol_h5" / "case0008.npy.h5"
    other = write_h5(transunet / "elsewhere", "case0001", 1, spacing=np.ones(3))
    with h5py.File(other) as file:
        shape = file[name].shape
    with h5py.File(path, "a") as file:
        file.pop(name, None)
        if kind == "virtual":
            layout = h5py.VirtualLayout(shape, float)
            layout[:] = h5py.VirtualSource(str(other), name, shape)
            file.create_virtual_dataset(name, layout)
        elif kind == "external":
            file.create_dataset(name, shape, float, external=[(str(other), 0, h5py.h5f.UNLIMITED)])
        else:
            file["elsewhere" if kind == "link to a link" else name] = h5py.ExternalLink(str(other), name)
        if kind == "link to a link":
            file[name] = h5py.SoftLink("/elsewhere")
    with pytest.raises(UserError, match=rf"case0008\.npy\.h5: {name} is a link to another file"):
        CaseDataset(str(transunet))[0]


@pytest.mark.parametrize(
    "array", [np.zeros((12, 10), complex), np.zeros((12, 10), "U3"), np.zeros((12, 10), [("a", int)]), np.zeros(())]
)
def test_arrays_that_are_no_images(transunet: Path, array: np.ndarray) -> None:
    write_npz(transunet, "case0005", 0, image=array)
    with pytest.raises(UserError, match=r"case0005_slice000\.npz: image(: an array of| \(\))"):
        SliceDataset(str(transunet))[0]
    write_npz(transunet, "case0005", 0, label=array)
    with pytest.raises(UserError, match=r"slice000\.npz: (label: an array of|image \(12, 10\) and label \(\))"):
        SliceDataset(str(transunet))[0]


def test_wrong_keys_are_named(transunet: Path) -> None:
    np.savez(transunet / "train_npz" / "case0005_slice000.npz", img=np.zeros((4, 4)), mask=np.zeros((4, 4)))
    with pytest.raises(UserError, match=r"slice000\.npz holds img, mask, expected image and label: no image"):
        SliceDataset(str(transunet))[0]


def test_objects_in_an_npz_do_not_run(transunet: Path, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self):
            return Path.touch, (tmp_path / "ran",)

    write_npz(transunet, "case0005", 0, image=np.array([Evil()], dtype=object))
    with pytest.raises(UserError, match=r"case0005_slice000\.npz: image: an array of object, expected"):
        SliceDataset(str(transunet))[0]
    assert not (tmp_path / "ran").exists()


def test_a_geometry_that_is_none(transunet: Path) -> None:
    with h5py.File(transunet / "test_vol_h5" / "case0008.npy.h5", "a") as file:
        file.attrs.update(origin=(np.nan, 2.0, 30.0), direction=np.eye(3).ravel())
    with pytest.raises(UserError, match=r"case0008\.npy\.h5: origin is \(nan, 2\.0, 30\.0\), expected 3 numbers"):
        CaseDataset(str(transunet))[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(size=5), "dataset.size is 5: expected"),
        (dict(size=(0, 4)), r"dataset.size is \(0, 4\)"),
        (dict(size="ab"), "dataset.size is 'ab'"),
        (dict(cases=3), "dataset.cases is 3: expected a list"),
        (dict(format_options=3), "dataset.format_options is 3: expected dict"),
        (dict(format_options=dict(foo=1)), "dataset.format_options: TransUNet: .*'foo'. It takes: root, axes"),
        (dict(spec=dict(orientation=5)), "orientation is 5: expected a text"),
    ],
)
def test_options_that_make_no_sense(transunet: Path, options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        SliceDataset(str(transunet), **options)


def test_a_manifest_whose_classes_are_no_list(transunet: Path) -> None:
    (transunet / "manifest.json").write_text('{"classes": 5}')
    with pytest.raises(UserError, match=r"manifest\.json: classes is 5: expected a list"):
        SliceDataset(str(transunet))


@pytest.mark.parametrize("window", ['"a"', "[1]", '["a", "b"]', "[2, 1]"])
def test_a_manifest_whose_window_is_none(transunet: Path, window: str) -> None:
    (transunet / "manifest.json").write_text(f'{{"window": {window}, "classes": ["background", "a"]}}')
    with pytest.raises(UserError, match=r"manifest\.json: window"):
        SliceDataset(str(transunet))
