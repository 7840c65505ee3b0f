"""Texts and JSON that tell of data: encodings, kinds, names that lead away."""

from pathlib import Path

import pytest

from medseg_kd.datasets.listings import is_plain_name, read_json, read_text
from medseg_kd.datasets.manifest import read_manifest
from medseg_kd.errors import UserError
from sample_folders import SAMPLES, read_sample, write_sample


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_encodings_that_tell_themselves(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.json").write_text('{"病": 1}', encoding=encoding)
    assert read_json(tmp_path / "a.json", dict) == {"病": 1}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("病例".encode("gbk"), "is no text in UTF-8. Save it as UTF-8"),
        (b"\xff\xfea", "is no text in UTF-8"),
        (b"{", "is no JSON: Expecting property name"),
        (b"[" * 100_000, "is no JSON: maximum recursion depth"),
        (b"9" * 5000, "is no JSON: Exceeds the limit"),
        (b"[]", r"is \[\]: expected a dict"),
    ],
    ids=["gbk", "odd utf-16", "cut", "deep", "digits", "list"],
)
def test_content_that_is_none(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(UserError, match=rf"a\.json {message}"):
        read_json(tmp_path / "a.json", dict)


def test_what_is_no_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="is no file: expected a text"):
        read_text(tmp_path)
    (tmp_path / "a").write_text("12345")
    monkeypatch.setattr("medseg_kd.text_files.MAX_TEXT", 4)
    with pytest.raises(UserError, match="too much for a text"):
        read_text(tmp_path / "a")


@pytest.mark.parametrize(("name", "plain"), [("case 1.a_ü:b", True), ("..a", True), ("c:a", False), ("", False)])
def test_plain_names(name: str, plain: bool) -> None:
    assert is_plain_name(name) is plain
    for part in ("/", "\\", "\0", "\n", "\x1b"):
        assert not is_plain_name(name + part)
    assert not (is_plain_name(None) or is_plain_name(".") or is_plain_name(".."))


@pytest.mark.parametrize(
    ("sample", "content", "message"),
    [
        ("manifest", '{"splits": 5}', "manifest.json: splits is 5: expected a dict"),
        ("manifest", '{"splits": {"train": {"a": 3}}}', "splits: train: a is 3: expected a dict"),
        ("manifest", '{"spec": 5}', "manifest.json is no description of images"),
        ("folds", '[{"train": [{}], "val": ["b"]}]', "splits_final.json: fold 0 names '{}', which"),
        ("folds", '[{"train": ["../a"], "val": ["b"]}]', "splits_final.json: fold 0 names '../a', which"),
        ("folds", "[]", "fold is 0, but the folds are none"),
        ("dataset", '{"channel_names": ["MR"]}', r"dataset.json: channels is \['MR'\]: expected a dict"),
        (
            "dataset",
            '{"channel_names": {"0": "MR"}, "file_ending": ".mha", "regions_class_order": 5, '
            '"labels": {"background": 0, "a": [1, 2], "b": 2}}',
            "regions_class_order is 5: expected a list",
        ),
        ("label-map", '{"1": {"a": 2}}', r"map.json: '1' -> {'a': 2} must be two integers"),
    ],
)
def test_json_of_another_structure(tmp_path: Path, sample: str, content: str, message: str) -> None:
    write_sample(SAMPLES[sample], tmp_path)
    (tmp_path / SAMPLES[sample].file).write_text(content)
    with pytest.raises(UserError, match=message):
        read_sample(SAMPLES[sample], tmp_path)


def test_no_manifest_is_none(tmp_path: Path) -> None:
    assert read_manifest(tmp_path) is None
