from pathlib import Path

import numpy as np
import pytest

from medseg_kd.datasets.conversion import SYNAPSE_CLASSES, load_label_map
from medseg_kd.errors import UserError

BTCV = {"spleen": 1, "right kidney": 2, "left kidney": 3, "gallbladder": 4, "liver": 6, "stomach": 7, "aorta": 8}
TOTALSEGMENTATOR = {"spleen": 1, "right kidney": 2, "left kidney": 3, "gallbladder": 4, "liver": 5, "stomach": 6}


AMOS = BTCV | {"pancreas": 10}
FLARE = {"liver": 1, "right kidney": 2, "spleen": 3, "pancreas": 4, "aorta": 5, "gallbladder": 9, "stomach": 11}


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("btcv", BTCV | {"pancreas": 11}),
        ("totalsegmentator", TOTALSEGMENTATOR | {"pancreas": 7, "aorta": 52}),
        ("amos", AMOS),
        ("flare", FLARE | {"left kidney": 13}),
    ],
)
def test_built_in_maps_follow_the_organ_names(name: str, source: dict[str, int]):
    label_map = load_label_map(name)
    assert {organ: SYNAPSE_CLASSES[label_map.target(value)] for organ, value in source.items()} == {
        organ: organ for organ in source
    }
    others = set(range(118)) - set(source.values())
    assert {label_map.target(value) for value in others} == {0}
    assert label_map.classes == SYNAPSE_CLASSES
    assert label_map.num_classes == 9


@pytest.mark.parametrize(
    ("name", "count", "source"),
    [
        ("amos15", 15, AMOS | {"esophagus": 5, "inferior vena cava": 9, "left adrenal gland": 12, "bladder": 14}),
        ("flare13", 13, FLARE | {"right adrenal gland": 7, "esophagus": 10, "duodenum": 12, "left kidney": 13}),
        ("lits", 2, {"liver": 1, "tumor": 2}),
    ],
)
def test_maps_that_keep_the_classes_of_their_data_set(name: str, count: int, source: dict[str, int]):
    label_map = load_label_map(name)
    assert {organ: label_map.classes[label_map.target(value)] for organ, value in source.items()} == {
        organ: organ for organ in source
    }
    assert label_map.num_classes == len(label_map.classes) == count + 1
    assert label_map.target(0) == 0 and label_map.target(count + 1) is None


def test_apply_keeps_shape_and_counts():
    label = np.array([[[0, 8, 8], [4, 13, 11]]], dtype=np.int32)
    mapped = load_label_map("btcv").apply(label)
    assert mapped.dtype == np.uint8
    np.testing.assert_array_equal(mapped, [[[0, 1, 1], [2, 0, 6]]])


def test_none_keeps_values_and_leaves_255_to_ignore():
    label_map = load_label_map("none")
    assert label_map.target(254) == 254
    assert label_map.target(255) is None
    with pytest.raises(UserError, match="label value 255"):
        label_map.apply(np.full((1, 2, 2), 255))


@pytest.mark.parametrize(
    ("name", "text"),
    [("m.json", '{"5": 1, "7": 2}'), ("m.txt", "# organs\n5 1\n7: 2  # seven\n\n"), ("m.map", "5=1\n7=2")],
)
def test_files(tmp_path: Path, name: str, text: str):
    (tmp_path / name).write_text(text)
    label_map = load_label_map(str(tmp_path / name))
    assert [label_map.target(value) for value in (0, 5, 7, 6)] == [0, 1, 2, None]
    assert label_map.num_classes == 3


def test_star_names_all_others(tmp_path: Path):
    (tmp_path / "m.json").write_text('{"5": 1, "*": 0}')
    assert load_label_map(str(tmp_path / "m.json")).target(99) == 0


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("m.json", "{", "is no JSON"),
        ("m.json", "[1]", "expected a dict"),
        ("m.json", "{}", "names no value"),
        ("m.json", '{"1": "liver"}', "two integers"),
        ("m.json", '{"1": 1.5}', "two integers"),
        ("m.json", '{"1": 255}', "0..254"),
        ("m.txt", "1 2 3", "1 2 3"),
    ],
)
def test_wrong_files(tmp_path: Path, name: str, text: str, message: str):
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=message):
        load_label_map(str(tmp_path / name))


def test_unknown_name():
    with pytest.raises(UserError, match="word.*amos15, flare"):
        load_label_map("word")
