"""Decoded slices: the same batches as from the files, never stale, never half of them."""

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from medseg_kd.datasets import SliceDataset, cache, collate_slices
from medseg_kd.datasets.cached_slices import cached_loader
from medseg_kd.datasets.phantom import write_phantom
from medseg_kd.errors import UserError

CPU = torch.device("cpu")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_phantom(tmp_path / "data", cases=2, test_cases=1, slices=4, size=64)
    return tmp_path / "data"


def loader(folder: Path, workers: int = 0, **options: Any) -> DataLoader:
    dataset = SliceDataset(str(folder), **{"cache": "auto", **options})
    return DataLoader(dataset, batch_size=2, num_workers=workers, collate_fn=collate_slices)


def files(folder: Path) -> list[str]:
    return sorted(os.listdir(folder / ".cache")) if (folder / ".cache").is_dir() else []


def is_cached(folder: Path, **options: Any) -> bool:
    return cached_loader(loader(folder, **options), CPU).dataset.__class__.__name__ == "CachedSlices"


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("options", [{}, {"spec": {"neighbours": 1}}, {"size": (24, 20)}, {"cache": "host"}])
def test_batches_are_those_of_the_files(folder: Path, options: dict[str, Any], workers: int) -> None:
    plain = loader(folder, workers, **options)
    batches = list(cached_loader(plain, CPU))
    assert len(batches) == 4
    for ours, theirs in zip(batches, plain, strict=True):
        assert torch.equal(ours["inputs"], theirs["inputs"])
        assert torch.equal(ours["labels"], theirs["labels"])
        assert ours["meta"] == theirs["meta"]
        assert [ours[key].dtype for key in ("inputs", "labels")] == [torch.float32, torch.uint8]


def test_random_numbers_are_those_of_a_run_without_it(folder: Path) -> None:
    before = torch.get_rng_state()
    assert is_cached(folder)
    assert torch.equal(torch.get_rng_state(), before)


def test_slices_are_decoded_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_cached(folder)
    monkeypatch.setattr(SliceDataset, "decode", lambda *_: pytest.fail("decoded again"))
    assert is_cached(folder)
    assert is_cached(folder, spec={"neighbours": 1})  # single slices are kept, which all stacks share
    assert len(files(folder)) == 1


@pytest.mark.parametrize("change", ["content", "time", "added"])
def test_other_files_are_decoded_anew(folder: Path, change: str) -> None:
    assert is_cached(folder)
    file = next((folder / "train_npz").glob("case0001_slice000.npz"))
    if change == "content":
        arrays = dict(np.load(file))
        np.savez(file, **{**arrays, "image": arrays["image"] * 0})
    elif change == "time":
        os.utime(file, ns=(0, 12345))
    else:
        shutil.copy(file, file.with_name("case0001_slice004.npz"))
        names = folder / "lists" / "lists_Synapse" / "train.txt"
        names.write_text(names.read_text().rstrip("\n") + "\ncase0001_slice004\n")
    plain = loader(folder)
    batches = list(cached_loader(plain, CPU))
    assert len(files(folder)) == 2
    for ours, theirs in zip(batches, plain, strict=True):
        assert torch.equal(ours["inputs"], theirs["inputs"])


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (np.arange(256) / 255, torch.uint8),
        (np.arange(256) / 256, torch.float16),
        (np.arange(256) / 257, torch.float32),
    ],
)
def test_images_are_kept_in_the_least_that_is_exact(values: np.ndarray, kind: torch.dtype, folder: Path) -> None:
    image = np.resize(values.astype(np.float32), (64, 64))
    for index, file in enumerate(sorted((folder / "train_npz").glob("*.npz"))):
        # Only the last one needs the wider format of the third case.
        narrow = np.zeros_like(image) if kind == torch.float32 and index < 7 else image
        np.savez(file, image=narrow, label=np.load(file)["label"])
    plain = loader(folder, spec={"channels": {"CT": "Stored"}})
    cached = cached_loader(plain, CPU)
    assert cached.dataset._cache.images.dtype == kind
    for ours, theirs in zip(cached, plain, strict=True):
        assert torch.equal(ours["inputs"], theirs["inputs"])


def test_photographs_take_a_byte_for_each_value(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for part in ("train", "val"):
        for kind in ("img_dir", "ann_dir"):
            (tmp_path / kind / part / "a").mkdir(parents=True)
        for index in range(3):
            pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "img_dir" / part / "a" / f"slice_{index:03}.png")
            Image.fromarray(pixels[..., 0] % 2).save(tmp_path / "ann_dir" / part / "a" / f"slice_{index:03}.png")
    spec = {"channels": dict.fromkeys(("R", "G", "B"), "RGB8"), "classes": ("background", "lesion")}
    plain = loader(tmp_path, spec=spec)
    cached = cached_loader(plain, CPU)
    assert cached.dataset._cache.images.dtype == torch.uint8
    for ours, theirs in zip(cached, plain, strict=True):
        assert torch.equal(ours["inputs"], theirs["inputs"])


def test_a_damaged_file_is_named_and_leaves_nothing(folder: Path) -> None:
    file = folder / "train_npz" / "case0002_slice001.npz"
    file.write_bytes(file.read_bytes()[:200])
    for workers in (0, 2):
        with pytest.raises(UserError, match="case0002_slice001.npz cannot be read"):
            cached_loader(loader(folder, workers), CPU)
        assert files(folder) == []


def test_slices_of_two_sizes_are_read_from_their_files(folder: Path) -> None:
    file = folder / "train_npz" / "case0002_slice001.npz"
    arrays = np.load(file)
    np.savez(file, image=arrays["image"][:32], label=arrays["label"][:32])
    assert not is_cached(folder)
    assert files(folder) == []


def test_a_full_disk_costs_speed_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(folder)
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    assert not is_cached(folder)
    assert files(folder) == []


def test_a_folder_that_takes_no_file_is_replaced(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / ".cache").write_text("a file")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "home"))
    assert is_cached(folder)
    assert [path.suffix for path in (folder / "home" / "medseg_kd").iterdir()] == [".npy"]


def test_a_folder_of_ones_own(folder: Path, tmp_path: Path) -> None:
    assert is_cached(folder, cache_dir=str(tmp_path / "mine"))
    assert files(folder) == []
    assert len(list((tmp_path / "mine").iterdir())) == 1


@pytest.mark.parametrize("left", [0, 5, 200, -1])
def test_a_cache_that_lost_its_end_is_written_anew(folder: Path, left: int) -> None:
    assert is_cached(folder)
    (name,) = files(folder)
    whole = (folder / ".cache" / name).read_bytes()
    (folder / ".cache" / name).write_bytes(whole[:left])
    assert is_cached(folder)
    assert (folder / ".cache" / name).read_bytes() == whole


@pytest.mark.parametrize("save", [np.save, np.savez], ids=["npy", "npz"])
@pytest.mark.parametrize("kept", [slice(0, 3), "image"], ids=str)
def test_what_is_no_cache_of_these_slices_is_written_anew(folder: Path, save: Any, kept: Any) -> None:
    assert is_cached(folder)
    (name,) = files(folder)
    path = folder / ".cache" / name
    whole = path.read_bytes()
    records = np.load(path)[kept]
    with path.open("wb") as file:
        save(file, records)
    assert is_cached(folder)
    assert path.read_bytes() == whole


def test_two_data_sets_share_no_cache_by_chance(folder: Path, tmp_path: Path) -> None:
    """Files of an archive may have equal names, sizes and times with other content."""
    other = shutil.copytree(folder, tmp_path / "other")
    for file in (other / "train_npz").glob("*.npz"):
        stat, arrays = file.stat(), dict(np.load(file))
        np.savez(file, **{**arrays, "image": 1 - arrays["image"]})
        os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        assert file.stat().st_size == stat.st_size
    first, second = (
        next(iter(cached_loader(loader(each, cache_dir=str(tmp_path / "mine")), CPU))) for each in (folder, other)
    )
    torch.testing.assert_close(first["inputs"], 1 - second["inputs"])


def test_half_of_a_killed_process_is_swept_away(folder: Path) -> None:
    assert is_cached(folder)
    whole = folder / ".cache" / files(folder)[0]
    old, new = whole.with_name(f".1-{whole.name}"), whole.with_name(f".2-{whole.name}")
    for draft in (old, new):
        draft.write_bytes(b"half")
    os.utime(old, (0, 0))
    whole.unlink()
    assert is_cached(folder)
    assert files(folder) == sorted([new.name, whole.name])


@pytest.mark.parametrize(
    "options", [{"cache": None}, {"indices": [0, 1]}, {"pipeline": [dict(type="LoadSlice"), dict(type="PackSlice")]}]
)
def test_what_is_not_cached(folder: Path, options: dict[str, Any]) -> None:
    assert not is_cached(folder, **options)
    assert files(folder) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cache": "gpu"}, "dataset.cache is 'gpu': expected auto, device, host or None"),
        ({"cache_dir": 3}, "dataset.cache_dir is 3: expected a folder or None"),
        ({"cache": "host", "pipeline": [dict(type="LoadSlice")]}, "dataset.pipeline is one of your own"),
        ({"cache": "device"}, "training runs on the cpu: take auto or host"),
    ],
)
def test_what_makes_no_sense_is_refused(folder: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        cached_loader(loader(folder, **options), CPU)
