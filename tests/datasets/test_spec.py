"""What the images are: told by a config, by a folder or by both."""

import json

import pytest

from medseg_kd.datasets import RGB8, Channel, DataSpec, Percentiles, Stored, Window, ZScore
from medseg_kd.datasets.datasets import spec_of
from medseg_kd.datasets.spec import combine, parts_of_config, parts_of_json, unnamed
from medseg_kd.errors import UserError

CLASSES = ("background", "edema", "core", "enhancing")
MR = DataSpec(
    channels=(Channel("T1", ZScore()), Channel("FLAIR", ZScore(nonzero=True))),
    classes=CLASSES,
    regions={"whole": (1, 2, 3), "core": (2, 3)},
    ignore_label=4,
    orientation="LPS",
    neighbours=2,
)


def test_json_there_and_back() -> None:
    content = json.loads(json.dumps(MR.to_json()))
    assert DataSpec.from_json(content, "manifest") == MR
    assert content["channel_names"] == {"0": "T1", "1": "FLAIR"}
    assert content["labels"] == {"background": 0, "edema": 1, "core": 2, "enhancing": 3, "ignore": 4}
    assert (MR.num_channels, MR.num_classes) == (10, 4)


@pytest.mark.parametrize("rule", [Window(-160, 240), Percentiles(1, 99), RGB8(), Stored()])
def test_rules_in_json(rule) -> None:
    spec = DataSpec((Channel("x", rule),), ("background", "a"))
    assert DataSpec.from_json(spec.to_json(), "manifest") == spec


@pytest.mark.parametrize(
    ("channels", "expected"),
    [
        ("RGB", (Channel("red", RGB8()), Channel("green", RGB8()), Channel("blue", RGB8()))),
        (dict(CT=dict(type="Window", low=-160, high=240)), (Channel("CT", Window(-160.0, 240.0)),)),
        ([["T2", "ZScore"], ["CT", "Percentiles"]], (Channel("T2", ZScore()), Channel("CT", Percentiles()))),
        (dict(CT=dict(type=Window, low=-160, high=240)), (Channel("CT", Window(-160.0, 240.0)),)),
        (dict(T1="ZScore", T2=ZScore), (Channel("T1", ZScore()), Channel("T2", ZScore()))),
        (("T1", "T2"), (Channel("T1"), Channel("T2"))),
    ],
)
def test_channels_of_a_config(channels, expected) -> None:
    assert parts_of_config(dict(channels=channels), "dataset.spec") == {"channels": expected}


NESTED = {"enhancing": (3,), "core": (2, 3), "whole": (1, 2, 3)}


def nested(**parts) -> DataSpec:
    return DataSpec(MR.channels, CLASSES, **parts)


def test_the_order_of_regions_is_nnunets_list() -> None:
    content = {"channel_names": {"0": "T1"}, "labels": {name: value for value, name in enumerate(CLASSES)}}
    content |= {"regions": {"whole": [1, 2, 3], "core": [2, 3], "rim": [1, 2]}, "regions_class_order": [1, 3, 2]}
    spec = DataSpec.from_json(content, "dataset.json")
    assert spec.decoded == (("whole", (1, 2, 3), 1), ("core", (2, 3), 3), ("rim", (1, 2), 2))
    again = json.loads(json.dumps(spec.to_json()))
    assert again["regions_class_order"] == [1, 3, 2] and list(again["regions"]) == ["whole", "core", "rim"]
    assert DataSpec.from_json(again, "manifest") == spec


def test_a_config_orders_regions_by_name() -> None:
    """A config that was written and read again has the keys of its dicts sorted."""
    order = [["whole", "edema"], ("core", 2), ("enhancing", "enhancing")]
    parts = parts_of_config(dict(classes=CLASSES, regions=NESTED, regions_class_order=order), "dataset.spec")
    spec = DataSpec(MR.channels, **parts)
    assert [(name, value) for name, _, value in spec.decoded] == [("whole", 1), ("core", 2), ("enhancing", 3)]
    assert DataSpec.from_json(spec.to_json(), "manifest").decoded == spec.decoded


@pytest.mark.parametrize(
    ("regions", "expected"),
    [
        (NESTED, [("whole", 1), ("core", 2), ("enhancing", 3)]),
        ({"whole": (1, 2, 3), "core": (1, 3), "necrosis": (1,)}, [("whole", 2), ("core", 3), ("necrosis", 1)]),
        ({"a": (1,), "b": (2,)}, [("b", 2), ("a", 1)]),
        ({"whole": (1, 2, 3), "core": (2, 3)}, []),
        ({"one": (1,), "same": (1,)}, []),
        ({}, []),
    ],
)
def test_regions_that_tell_their_order_themselves(regions, expected) -> None:
    spec = nested(regions=regions)
    assert [(name, value) for name, _, value in spec.decoded] == expected
    assert DataSpec.from_json(spec.to_json(), "manifest") == spec


def test_specs_of_another_order() -> None:
    given = (("whole", 1), ("core", 2), ("enhancing", 3))
    one, same = nested(regions=NESTED), nested(regions=NESTED, regions_class_order=given)
    other = nested(regions=NESTED, regions_class_order=given[::-1])
    assert one.differences(same) == []
    assert one.differences(nested(regions=dict(reversed(NESTED.items())))) == []
    assert one.differences(other) == [
        "regions_class_order: ('whole', 1), ('core', 2), ('enhancing', 3) and "
        "('enhancing', 3), ('core', 2), ('whole', 1)"
    ]


def test_regions_of_a_config_name_classes() -> None:
    parts = parts_of_config(dict(classes=CLASSES, regions=dict(whole=("core", 1), core="core")), "dataset.spec")
    assert parts["regions"] == {"whole": (1, 2), "core": (2,)}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (dict(chanels="RGB"), "dataset.spec has no key 'chanels'; it takes channels, classes"),
        ("RGB", r"dataset.spec is 'RGB': expected dict\(channels=..., "),
        (dict(channels="CT"), "channels is 'CT': expected a list of names"),
        (dict(channels=dict(CT="Windw")), r"dataset.spec.channels.CT is 'Windw': expected an intensity rule, one of"),
        (dict(channels=dict(CT=dict(type="Window"))), "channels.CT: Window: .*low"),
        (dict(channels=dict(CT=dict(type="Window", low=5, high=5))), "channels.CT: window 5 5: expected a number and"),
        (dict(channels=dict(CT=dict(type="Window", low=float("nan"), high=5))), "window nan 5"),
        (dict(channels=("T1", "T1")), "expected different names"),
        (dict(classes=("background",)), "1 classes"),
        (dict(classes=("background", "ignore")), "a class is named ignore.* Set ignore_label"),
        (dict(classes=("background", "a", "a")), "expected different names"),
        (dict(classes=["c" + str(index) for index in range(300)]), "300 classes"),
        (dict(classes=CLASSES, ignore_label=2), "ignore_label 2 is the value of the class core"),
        (dict(classes=CLASSES, ignore_label="255"), "ignore_label is '255': expected a number"),
        (dict(neighbours=-1), "neighbours is -1: expected a number from 0 to 16"),
        (dict(neighbours=True), "neighbours is True"),
        (
            dict(classes=CLASSES, regions=dict(whole=("liver",))),
            "region 'whole' has 'liver', none of the classes edema",
        ),
        (dict(classes=CLASSES, regions=dict(whole=(0, 1))), "region 'whole' has 0"),
        (dict(classes=CLASSES, regions=dict(whole=())), r"region 'whole' is \(\): expected some of the classes edema"),
        (dict(classes=CLASSES, regions=dict(whole=None)), "region 'whole' is None"),
        (dict(classes=CLASSES, regions=dict(whole=1.5)), "region 'whole' is 1.5"),
        (dict(channels=dict(T1=dict(type="ZScore", nonzero="no"))), "channels.T1: nonzero is 'no'"),
        (dict(channels=[("T1", "ZScore"), ("T1", "ZScore")]), "expected different names"),
        (dict(regions=dict(whole=(1,))), "beside the names of the classes"),
        (
            dict(classes=CLASSES, regions=NESTED, regions_class_order=[1, 2, 3]),
            r"regions_class_order is \[1, 2, 3\]: expected \(region, class\) for each region .*; the regions are core ",
        ),
        (dict(classes=CLASSES, regions=dict(a=1, b=2), regions_class_order=[("a", 1)]), "for each region"),
        (dict(classes=CLASSES, regions=dict(a=1), regions_class_order=[("a", "core")]), "one of the region's own"),
        (dict(classes=CLASSES, regions_class_order=[("a", 1)]), "the regions are none"),
    ],
)
def test_a_spec_that_makes_no_sense(spec, message) -> None:
    with pytest.raises(UserError, match=message):
        parts_of_config(spec, "dataset.spec")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "no description of images"),
        ({"labels": {"background": 0, "liver": 2}}, "expected the numbers 0, 1, 2"),
        ({"labels": {"background": "a"}}, "expected the numbers 0, 1, 2"),
        ({"labels": ["background"]}, "expected names and their values"),
        ({"channel_names": {"1": "CT"}}, "expected the numbers 0, 1, 2"),
        (
            {"labels": {"background": 0, "a": 1}, "regions": {"a": [1]}, "regions_class_order": [1, 1]},
            "the regions are a",
        ),
        ({"labels": {"background": 0, "a": 1}, "regions": {"a": [1]}, "regions_class_order": 2}, "the regions are a"),
        ({"channel_names": {"0": "CT"}, "intensities": []}, None),
        ({"channel_names": {"0": "CT"}, "intensities": ["Stored", "Stored"]}, "expected one for each"),
    ],
)
def test_json_that_is_no_spec(content, message) -> None:
    if message is None:
        assert parts_of_json(content, "manifest")["channels"] == (Channel("CT"),)
    else:
        with pytest.raises(UserError, match=f"manifest.*{message}"):
            parts_of_json(content, "manifest")


def test_config_and_folder_complete_each_other() -> None:
    config = parts_of_config(dict(classes=CLASSES, channels=("CT",), neighbours=1), "dataset.spec")
    folder = parts_of_json(
        {"channel_names": {"0": "CT"}, "intensities": [Window(0, 9).to_json()], "orientation": "LPS"}, "manifest"
    )
    together = combine(config, folder, ("dataset.spec", "data"))
    assert DataSpec(**together) == DataSpec((Channel("CT", Window(0, 9)),), CLASSES, orientation="LPS", neighbours=1)


@pytest.mark.parametrize(
    ("config", "folder", "message"),
    [
        (
            dict(classes=("background", "a", "b")),
            dict(classes=("background", "b", "a")),
            r"differ in classes:\n .*a, b",
        ),
        (dict(channels=("CT",)), dict(channels="RGB"), r"differ in channels:\n.*CT.*\n.*red"),
        (
            dict(channels=dict(CT=dict(type="Window", low=-125, high=275))),
            dict(channels=dict(CT=dict(type="Window", low=-160, high=240))),
            r"differ in channels:\n.*low=-125.*\n.*low=-160",
        ),
        (dict(ignore_label=255), dict(ignore_label=9), "differ in ignore_label"),
    ],
)
def test_config_and_folder_that_differ(config, folder, message) -> None:
    parts = parts_of_config(config, "dataset.spec"), parts_of_config(folder, "data")
    with pytest.raises(UserError, match=f"dataset.spec and data/x {message}"):
        combine(*parts, ("dataset.spec", "data/x"))


def test_differences_of_two_specs() -> None:
    assert MR.differences(MR) == []
    other = DataSpec(
        (Channel("T1", Window(0, 9)), Channel("FLAIR", Stored())), (*CLASSES[:3], "necrosis"), neighbours=1
    )
    told = "\n".join(MR.differences(other))
    assert "classes: background, edema, core, enhancing and background, edema, core, necrosis" in told
    assert "T1 (ZScore(nonzero=False)) and T1 (Window(low=0.0, high=9.0))" in told and "FLAIR" not in told
    assert "neighbours: 2 and 1" in told and "regions" in told and "orientation" not in told


def test_names_that_nobody_told_give_way() -> None:
    """A folder that was prepared without names says "class 1" and so on."""
    named = parts_of_config(dict(classes=CLASSES), "dataset.spec")
    numbered = parts_of_config(dict(classes=unnamed(4)), "data")
    for config, folder in ((named, numbered), (numbered, named)):
        assert combine(config, folder, ("dataset.spec", "data"))["classes"] == CLASSES
    with pytest.raises(UserError, match="differ in classes"):
        combine(named, parts_of_config(dict(classes=unnamed(5)), "data"), ("dataset.spec", "data"))
    channels = (Channel("CT"),)
    assert DataSpec(channels, CLASSES).differences(DataSpec(channels, unnamed(4))) == []
    assert DataSpec(channels, CLASSES).differences(DataSpec(channels, unnamed(3))) != []


def test_a_spec_that_is_no_dict() -> None:
    with pytest.raises(UserError, match=r"dataset.spec is 'dict\(neighbours=1\)': expected a dict.*spec.neighbours=1"):
        spec_of("dict(neighbours=1)", None)  # type: ignore[arg-type]
