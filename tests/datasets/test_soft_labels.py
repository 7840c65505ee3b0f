"""Soft labels from stored probabilities: those of the slice, or an error."""

import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import torch
from stored_files import softened, volumes, write_nnunet
from torch.utils.data import DataLoader
from volume_files import write_volume

from medseg_kd.datasets import Channel, SliceDataset, Window, collate_slices, soft_labels
from medseg_kd.datasets.cached_slices import cached_loader
from medseg_kd.datasets.conversion import Pair, Recipe, convert, load_label_map
from medseg_kd.datasets.pickled import numbers, read_pickle
from medseg_kd.errors import UserError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A raw nnU-Net folder of six cases in RAS, the axes of their files another way round than those of the slices."""
    volumes(tmp_path / "Dataset001_Prostate")
    return tmp_path / "Dataset001_Prostate"


@pytest.fixture
def stored(root: Path, tmp_path: Path) -> Path:
    """What nnU-Net's predictor leaves of them."""
    _store(root, tmp_path / "stored")
    shutil.copy(root / "dataset.json", tmp_path / "stored")
    return tmp_path / "stored"


def _soft(root: Path, name: str) -> np.ndarray:
    """(K, z, y, x) of a case, in LPS."""
    return softened(_label(root, name), 3, ord(name))


def _label(root: Path, name: str) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.DICOMOrient(sitk.ReadImage(str(root / "labelsTr" / f"{name}.nii.gz")), "LPS"))


def _store(root: Path, folder: Path, reader: str = "sitk") -> None:
    for name in "abcdef":
        write_nnunet(folder, name, root / "imagesTr" / f"{name}_0000.nii.gz", _soft(root, name), reader)


def _open(root: Path, stored: Any, **options: Any) -> SliceDataset:
    options = {"format_options": {"fold": "all"}, **options}
    return SliceDataset(str(root), soft_labels=stored if isinstance(stored, list) else str(stored), **options)


def _refused(root: Path, stored: Any, **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        _open(root, stored, **options)
    assert len(str(caught.value).splitlines()) <= 6
    assert not (root / ".cache").exists(), "half of it was kept"
    return str(caught.value)


@pytest.mark.parametrize("reader", ["sitk", "nibabel", "reorient"])
def test_each_slice_gets_the_probabilities_of_its_voxels(root: Path, tmp_path: Path, reader: str):
    _store(root, tmp_path / "stored", reader)
    dataset = _open(root, tmp_path / "stored")
    assert len(dataset) == 24
    for item in dataset:
        expected = _soft(root, item["meta"]["case_name"])[:, item["meta"]["slice_index"]]
        assert item["soft"].dtype == torch.float16
        assert np.abs(item["soft"].numpy() - expected).max() < 1e-3
        assert torch.equal(item["soft"].argmax(0), item["labels"])


def test_ours_are_read_by_the_mask_beside_them(root: Path, tmp_path: Path):
    """As predict.py --probabilities leaves them: names in the file, the geometry in the mask."""
    folder = tmp_path / "stored"
    for name in "abcdef":
        soft = np.flip(_soft(root, name), (2, 3)).astype(np.float16)  # from LPS to the RAS of the file
        folder.mkdir(exist_ok=True)
        np.savez(folder / f"{name}.npz", probabilities=soft, names=np.array(["background", "PZ", "TZ"]))
        shutil.copy(root / "labelsTr" / f"{name}.nii.gz", folder)
    assert all(torch.equal(item["soft"].argmax(0), item["labels"]) for item in _open(root, folder))
    np.savez(folder / "a.npz", probabilities=soft, names=np.array(["background", "TZ", "PZ"]))
    with pytest.raises(UserError, match=r"3 classes \(background, TZ, PZ\), the training data have 3"):
        _open(root, folder)


def test_slices_that_were_prepared_from_the_volumes_get_theirs(root: Path, stored: Path, tmp_path: Path):
    """By case and number: nnU-Net has seen the volumes, the student its slices; spacing is compared, too."""
    pairs = [Pair(n, root / f"imagesTr/{n}_0000.nii.gz", root / f"labelsTr/{n}.nii.gz") for n in "abcdef"]
    recipe = Recipe(Channel("T2", Window(-4, 6)), load_label_map("none"), ("background", "PZ", "TZ"))
    convert({"train": pairs}, tmp_path / "out", recipe, "test")
    for item in _open(tmp_path / "out", stored, format_options={}):
        expected = _soft(root, item["meta"]["case_name"])[:, item["meta"]["slice_index"]]
        assert np.abs(item["soft"].numpy() - expected).max() < 1e-3
    last = tmp_path / "out" / "train_npz" / "c_slice003.npz"
    last.unlink()
    shutil.rmtree(tmp_path / "out" / "lists")
    shutil.rmtree(tmp_path / "out" / ".cache")
    told = _refused(tmp_path / "out", stored, format_options={})
    assert "probabilities of (4, 12, 10), but training case c has (3, 12, 10)" in told


def test_folds_are_several_folders(root: Path, stored: Path):
    folds = [stored.parent / f"fold_{fold}" / "validation" for fold in range(2)]
    for fold, names in zip(folds, ("abc", "def"), strict=True):
        fold.mkdir(parents=True)
        for name in names:
            for path in stored.glob(f"{name}.*"):
                shutil.copy(path, fold)
    assert len(_open(root, [*map(str, folds)])) == 24
    shutil.copy(folds[0] / "b.npz", folds[1])
    with pytest.raises(UserError, match="are of one case"):
        _open(root, [*map(str, folds)])


@pytest.mark.parametrize(
    "options", [{}, {"size": (8, 14)}, {"spec": {"neighbours": 1}}, {"exclude_cases": ["b"]}], ids=str
)
@pytest.mark.parametrize("workers", [0, 2])
def test_cached_batches_are_those_of_the_files(root: Path, stored: Path, workers: int, options: dict[str, Any]):
    dataset = _open(root, stored, cache="auto", **options)
    plain = DataLoader(dataset, batch_size=3, num_workers=workers, collate_fn=collate_slices)
    cached = cached_loader(plain, torch.device("cpu"))
    assert type(cached.dataset).__name__ == "CachedSlices"
    for one, other in zip(plain, cached, strict=True):
        assert set(one) == set(other) == {"inputs", "labels", "meta", "soft"}
        assert all(torch.equal(one[key], other[key]) for key in ("inputs", "labels", "soft"))
        assert one["soft"].shape == (len(one["labels"]), 3, *one["labels"].shape[1:])
        assert (one["soft"].float().sum(1) - 1).abs().max() < 2e-3


def test_some_of_the_slices_have_their_own(root: Path, stored: Path):
    whole, some = _open(root, stored), _open(root, stored, indices=[9, 2])
    assert all(torch.equal(some[i]["soft"], whole[j]["soft"]) for i, j in enumerate((9, 2)))


def test_cases_without_a_label_have_their_own(root: Path, stored: Path):
    """What cannot be compared is not; what can be is, as before."""
    whole = _open(root, stored)
    dataset = _open(root, stored, labelled=["b", "c", "d"], with_unlabelled=True)
    assert dataset.unlabelled == ["a", "e", "f"]
    for item, expected in zip(dataset, whole, strict=True):
        assert torch.equal(item["soft"], expected["soft"])
    none = _open(root, stored, labelled=[], with_unlabelled=True)
    assert torch.equal(none[0]["soft"], whole[0]["soft"]) and (none[0]["labels"] == 255).all()
    _changed(stored, probabilities=lambda p: p[:, :, ::-1])
    with pytest.raises(UserError, match=r"case b\).*flipped"):
        _open(root, stored, labelled=["b"], with_unlabelled=True)


def test_files_are_read_once_and_again_when_they_change(root: Path, stored: Path, monkeypatch: pytest.MonkeyPatch):
    _open(root, stored)
    read = []
    original = soft_labels.read_stored
    monkeypatch.setattr(soft_labels, "read_stored", lambda path, spec: read.append(path.stem) or original(path, spec))
    _open(root, stored)
    assert not read
    _store(root, stored)
    written = _open(root, stored).soft.path
    assert read == _open(root, stored).case_names
    written.write_bytes(written.read_bytes()[:-1000])  # as a disk that failed may leave it
    assert _open(root, stored)[0]["soft"].shape == (3, 12, 10) and len(read) == 12
    properties = pickle.loads((stored / "c.pkl").read_bytes())
    properties["sitk_stuff"]["origin"] = (0.0, 0.0, 0.0)
    (stored / "c.pkl").write_bytes(pickle.dumps(properties))
    with pytest.raises(UserError, match=r"c\.npz lies elsewhere"):
        _open(root, stored)


@pytest.mark.parametrize(("order", "told"), [([0, 1, 2], "Dice 100.0% on training case a"), ([1, 2, 0], "at chance")])
def test_the_log_tells_how_good_the_teacher_is(
    root: Path, stored: Path, order: list[int], told: str, monkeypatch: pytest.MonkeyPatch
):
    for name in "abcdef":
        _changed(stored, name, probabilities=lambda p: p[order])
    lines = []
    monkeypatch.setattr(soft_labels, "print_log", lambda line, *_: lines.append(line))
    _open(root, stored)
    assert told in lines[-1] and f"({stored})" in lines[0]


def _changed(stored: Path, name: str = "b", **changes: Any) -> None:
    path = stored / f"{name}.npz"
    values = np.load(path)["probabilities"]
    np.savez(path, **{key: change(values) for key, change in changes.items()})


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda p: p[:2], "b.npz is of 2 classes, the training data have 3 (background, PZ, TZ)"),
        (lambda p: p[:, :3], "b.npz: probabilities of (3, 12, 10), but training case b has (4, 12, 10)"),
        (lambda p: p.swapaxes(2, 3), "b.npz: probabilities of (4, 10, 12), but training case b has (4, 12, 10)"),
        (lambda p: np.log(p), "they are logits, or of regions"),
        (lambda p: p * 0.7 + 0.2, "add up to 1.3 to 1.3"),
        (lambda p: np.where(p > 0.9, np.nan, p), "probabilities are NaN or infinite"),
        (lambda p: (p * 255).astype(np.uint8), "probabilities is uint8 (3, 4, 12, 10), expected real numbers"),
        (lambda p: p[:, :, ::-1], "by 100.0% with rows flipped"),
        (lambda p: p[:, ::-1, ::-1], "by 100.0% with slices and rows flipped"),
    ],
)
def test_what_is_not_of_the_case_is_refused(root: Path, stored: Path, change: Any, told: str):
    _changed(stored, probabilities=change)
    assert told in _refused(root, stored)


def test_slices_that_lie_otherwise_are_refused_though_square(tmp_path: Path):
    """What shapes cannot tell: rows and columns exchanged, in a case of its own or in all."""
    root, label = tmp_path / "data", np.zeros((3, 12, 12), np.uint8)
    label[0, 1:4, 2:9] = label[2, 7:9, 1:5] = 1
    label[1, 5:11, 6:8] = 2
    for name in "abcde":
        write_volume(root / "images" / f"{name}.nii.gz", label / np.float32(2))
        write_volume(root / "labels" / f"{name}.nii.gz", label)
        soft = softened(label, 3).swapaxes(2, 3)
        write_nnunet(tmp_path / "stored", name, root / "images" / f"{name}.nii.gz", soft)
    spec = {"channels": ["T2"], "classes": ["background", "PZ", "TZ"]}
    told = _refused(root, tmp_path / "stored", spec=spec, format_options={})
    assert "a.npz (case a)" in told and "with rows and columns exchanged" in told


def test_a_case_that_lies_elsewhere_is_refused(root: Path, stored: Path):
    properties = pickle.loads((stored / "c.pkl").read_bytes())
    for key, value in {"spacing": (1.0, 2.0, 3.0), "origin": (0.0, 0.0, 0.0)}.items():
        changed = {**properties, "sitk_stuff": {**properties["sitk_stuff"], key: value}}
        (stored / "c.pkl").write_bytes(pickle.dumps(changed))
        told = _refused(root, stored)
        assert "c.npz lies elsewhere than training case c" in told and f"differ in {key}" in told


def test_missing_files_are_named_with_the_command_that_makes_them(root: Path, stored: Path):
    (stored / "d.npz").unlink()
    told = _refused(root, stored)
    assert "lacks 1 of the training cases" in told and "no d.npz" in told and "--save_probabilities" in told
    assert "there is no folder" in _refused(root, stored / "none")
    _store(root, stored)
    (stored / "e.pkl").unlink()
    assert "neither e.pkl (nnU-Net's) nor e.nii.gz" in _refused(root, stored)


def test_other_classes_in_the_json_beside_are_refused(root: Path, stored: Path):
    other = (root / "dataset.json").read_text()
    (stored / "dataset.json").write_text(other.replace("TZ", "tumour"))
    assert "(background, PZ, tumour), the training data have 3 (background, PZ, TZ)" in _refused(root, stored)
    (stored / "dataset.json").write_text(
        other.replace('"PZ": 1', '"whole": [1, 2]').replace('}, "file', '}, "regions_class_order": [1, 2], "file')
    )
    assert "has regions" in _refused(root, stored)


def test_a_pipeline_of_ones_own_is_refused(root: Path, stored: Path):
    steps = [dict(type="LoadSlice"), dict(type="mmseg.RandomRotFlip"), dict(type="PackSlice")]
    assert "would not move soft labels" in _refused(root, stored, pipeline=steps)


class _Calls:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("protocol", [0, 4, 5])
def test_nothing_in_a_pickle_runs(root: Path, stored: Path, tmp_path: Path, protocol: int):
    (stored / "a.pkl").write_bytes(pickle.dumps({"sitk_stuff": _Calls(tmp_path / "hit")}, protocol))
    told = _refused(root, stored)
    assert "a.pkl is not what nnU-Net writes: it asks for" in told and "Nothing in it was run" in told
    assert not (tmp_path / "hit").exists()


@pytest.mark.parametrize("protocol", range(3, 6))
def test_numbers_come_back_whatever_the_protocol(tmp_path: Path, protocol: int):
    plain = {"a": (1.5, None, True), "b": [[0, 7]], "c": {"d": "text"}}
    numpy = {"scalar": np.float64(2.5), "big": np.dtype(">i4").type(3)}
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps({**plain, **numpy, "array": np.arange(6, dtype=">f4").reshape(2, 3).T}, protocol))
    read = read_pickle(path)
    array = numbers(read.pop("array"))
    assert read == {**plain, "scalar": 2.5, "big": 3}
    assert array.tolist() == [[0, 3], [1, 4], [2, 5]]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no pickle",
        pickle.dumps([1]),
        pickle.dumps({"a": np.array([{}], dtype=object)}),
        pickle.dumps({"a": {1, 2}}, 2),
        b"\x80\x05\x96\xff\xff\xff\xff\xff\xff\xff\x0f.",  # an array of bytes that would fill all memory
        b"cnumpy\ndtype\n}b.",  # changes what stands for a type
    ],
)
def test_what_is_no_pickle_of_numbers_is_refused(tmp_path: Path, content: bytes):
    path = tmp_path / "x.pkl"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"x\.pkl is not what nnU-Net writes"):
        read_pickle(path)
