"""Names and colours of labels for viewers."""

import json
from pathlib import Path

import pytest

from medseg_kd.errors import UserError
from medseg_kd.evaluation.label_tables import colour, write_label_tables


def test_colours_are_far_apart_and_depend_on_the_value_alone() -> None:
    colours = [colour(value) for value in range(60)]
    assert colours[0] == (0, 0, 0) and len(set(colours)) == 60
    for value, own in enumerate(colours[1:15]):
        others = [other for other in colours[:15] if other != own]
        assert min(sum(abs(a - b) for a, b in zip(own, other, strict=True)) for other in others) > 60, value


def test_the_files(tmp_path: Path) -> None:
    write_label_tables(tmp_path, ("background", "left kidney", 'a "b"'))
    assert json.loads((tmp_path / "labels.json").read_text("utf-8"))["labels"]["left kidney"] == 1
    snap = [line.split(maxsplit=7) for line in (tmp_path / "labels.txt").read_text("utf-8").splitlines()[1:]]
    assert [line[0] for line in snap] == ["0", "1", "2"] and [line[7] for line in snap] == [
        '"background"',
        '"left kidney"',
        "\"a 'b'\"",
    ]
    assert tuple(map(int, snap[1][1:4])) == colour(1) and snap[0][4:7] == ["0"] * 3 and snap[1][4:7] == ["1"] * 3
    slicer = [line.split() for line in (tmp_path / "labels.ctbl").read_text("utf-8").splitlines()[1:]]
    assert slicer[1] == ["1", "left_kidney", *map(str, colour(1)), "255"] and slicer[0][-1] == "0"


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write .*file.labels\.json: "):
        write_label_tables(tmp_path / "file", ("background", "liver"))
