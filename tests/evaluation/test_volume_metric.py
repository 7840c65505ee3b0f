"""The metric as a test loop uses it: from data samples to tables and files."""

import csv
import json
import math
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from medpy.metric.binary import dc
from medpy.metric.binary import hd95 as medpy_hd95
from mmengine.evaluator import Evaluator
from mmengine.runner import Runner
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from medseg_kd.errors import UserError
from medseg_kd.evaluation import VolumeMetric, score_case, volume_metric
from medseg_kd.registry import METRICS

CLASSES = ("background", "aorta", "liver", "spleen")


def sample(name: str, pred: np.ndarray, truth: np.ndarray, spacing: tuple[float, ...] | None = None) -> SegDataSample:
    meta = {"case_name": name, "spacing": spacing}
    sample = SegDataSample(metainfo=meta)
    sample.pred_sem_seg = PixelData(data=torch.from_numpy(pred))
    sample.gt_sem_seg = PixelData(data=torch.from_numpy(truth))
    return sample


def cases(spacing: tuple[float, ...] | None = (3.0, 2.0, 1.0)) -> list[SegDataSample]:
    """Aorta in both cases; liver missed in the first, false in the second; spleen nowhere."""
    samples = []
    for index in range(2):
        pred, truth = np.zeros((3, 8, 9), dtype=np.uint8), np.zeros((3, 8, 9), dtype=np.uint8)
        truth[:, 1:4, 1:5] = 1
        pred[:, 1:4, 2 + index : 5 + index] = 1
        (pred if index else truth)[:, 6, :4] = 2
        samples.append(sample(f"case{index}", pred, truth, spacing))
    return samples


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(volume_metric, "print_log", lambda text, logger: lines.append(text))
    return lines


def evaluate(metric: VolumeMetric, samples: list[SegDataSample], **meta: object) -> dict[str, float]:
    evaluator = Evaluator(metric)
    evaluator.dataset_meta = {"classes": CLASSES, **meta}
    for item in samples:
        evaluator.process(data_samples=[item], data_batch=None)
    return evaluator.evaluate(len(samples))


def expected(protocol: str) -> list[dict]:
    """Each case's scores from ``score_case``."""
    return [score_case(s.pred_sem_seg.data.numpy(), s.gt_sem_seg.data.numpy(), 4, s.spacing, protocol) for s in cases()]


def test_means_and_tables(printed: list[str]) -> None:
    values = evaluate(METRICS.build(dict(type="VolumeMetric", per_class=True)), cases(), note="synthetic phantom")
    aorta = {m: np.mean([c[1][m] for c in expected("transunet")]) for m in ("dice", "hd95")}
    assert values["Dice_aorta"] == pytest.approx(100 * aorta["dice"])
    assert values["Dice_liver"] == pytest.approx(50.0)
    assert values["Dice_spleen"] == 0.0
    assert values["mDice"] == pytest.approx((100 * aorta["dice"] + 50.0) / 3)
    assert values["mHD95"] == pytest.approx(aorta["hd95"] / 3)
    assert set(values) >= {"mJaccard", "mASD", "ASD_spleen"}
    transunet, strict = printed
    assert "protocol transunet, 2 case(s): Dice, Jaccard in %; HD95, ASD in voxels" in transunet
    assert "protocol strict, 2 case(s): Dice, Jaccard in %; HD95, ASD in mm" in strict
    for text in printed:
        assert "6 organ-cases: 2 in both, 1 missed, 1 false alarms, 2 empty in both" in text
        assert text.endswith("Note: synthetic phantom")
    row = next(line for line in strict.splitlines() if "liver" in line)
    assert [cell.strip() for cell in row.strip("|").split("|")] == ["liver", "0.00", "0.00", "-", "-", "1", "1"]


def test_files(tmp_path: Path, printed: list[str]) -> None:
    values = evaluate(VolumeMetric(output_dir=str(tmp_path / "test")), cases())
    assert sorted(path.name for path in (tmp_path / "test").iterdir()) == ["metrics.json", "per_case.csv"]
    content = json.loads((tmp_path / "test" / "metrics.json").read_text())
    assert list(content) == ["transunet", "strict"]
    means = {"mDice", "mJaccard", "mHD95", "mASD"}
    assert set(content["transunet"]) == means | {"per_class"}
    assert set(content["strict"]) == means | {"per_class", "missed", "false_alarms"}
    assert {key: content["transunet"][key] for key in means} == values
    assert (content["strict"]["missed"], content["strict"]["false_alarms"]) == (1, 1)
    assert list(content["strict"]["per_class"]) == list(CLASSES[1:])
    assert content["strict"]["per_class"]["spleen"] == dict.fromkeys(["Dice", "Jaccard", "HD95", "ASD"])
    assert content["strict"]["per_class"]["liver"] == {"Dice": 0.0, "Jaccard": 0.0, "HD95": None, "ASD": None}
    strict = [case[1] for case in expected("strict")]
    assert content["strict"]["mHD95"] == pytest.approx(np.mean([score["hd95"] for score in strict]))

    with (tmp_path / "test" / "per_case.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["protocol", "case", "class", "dice", "jaccard", "hd95", "asd", "unit", "status"]
    assert len(rows) == 2 * 2 * 3
    first = next(r for r in rows if (r["protocol"], r["case"], r["class"]) == ("strict", "case1", "aorta"))
    assert (first["unit"], first["status"]) == ("mm", "ok")
    assert float(first["dice"]) == 100 * strict[1]["dice"]
    assert float(first["asd"]) == strict[1]["asd"]
    gone = next(r for r in rows if (r["protocol"], r["case"], r["class"]) == ("strict", "case0", "spleen"))
    assert gone["status"] == "empty"
    assert math.isnan(float(gone["dice"]))
    assert {r["unit"] for r in rows if r["protocol"] == "transunet"} == {"voxel"}


def test_dice_alone_is_brief_and_writes_nothing(printed: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*args: object) -> None:
        raise AssertionError("looked for surfaces")

    monkeypatch.setattr("medseg_kd.evaluation.case._surfaces_by_class", forbidden)
    values = evaluate(VolumeMetric(measures=("Dice",), protocols=("transunet",)), cases(), note="synthetic phantom")
    assert list(values) == ["mDice"]
    (text,) = printed
    assert "1 missed" in text
    assert f"Dice: mean {values['mDice']:.2f} (aorta " in text
    assert "synthetic phantom" in text
    assert len(text.splitlines()) == 3


def test_runner_builds_it_from_a_config() -> None:
    config = dict(type=VolumeMetric, measures=("Dice",), protocols=("transunet",))
    (metric,) = Runner.build_evaluator(None, config).metrics
    assert isinstance(metric, VolumeMetric)
    assert [measure.title for measure in metric.measures] == ["Dice"]


def test_without_spacing_strict_is_in_voxels(printed: list[str]) -> None:
    evaluate(VolumeMetric(), cases(spacing=None))
    assert "protocol strict, 2 case(s): Dice, Jaccard in %; HD95, ASD in voxels" in printed[1]


def test_units_are_never_mixed(tmp_path: Path, printed: list[str]) -> None:
    mixed = [cases()[0], cases(spacing=None)[1]]
    evaluate(VolumeMetric(protocols=("strict",), output_dir=str(tmp_path)), mixed)
    assert "1 of 2 cases have no spacing (case1)" in printed[0]
    assert "in voxels" in printed[1]
    with (tmp_path / "per_case.csv").open(newline="") as file:
        assert {row["unit"] for row in csv.DictReader(file)} == {"voxel"}


def test_first_protocol_gives_the_values(printed: list[str]) -> None:
    values = evaluate(VolumeMetric(protocols=("strict", "transunet"), prefix="test"), cases())
    assert values["test/mDice"] == pytest.approx(100 * np.mean([case[1]["dice"] for case in expected("strict")]) / 2)


def test_one_slice_and_padded_batches(printed: list[str]) -> None:
    labels = np.zeros((1, 8, 9), dtype=np.uint8)
    labels[0, 2:4, 2:4] = 3
    evaluator = Evaluator(VolumeMetric())
    evaluator.dataset_meta = {"classes": CLASSES}
    evaluator.process([sample("a", labels, labels), sample("b", labels, labels)])
    assert evaluator.evaluate(1)["mDice"] == pytest.approx(100 / 3)
    assert "1 case(s)" in printed[0]


def test_cases_are_scored_beside_the_loop(printed: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Two cases are handed over without a wait; the third waits until one is done; their order stays."""
    gate, score_volumes = threading.Event(), volume_metric.score_volumes

    def slow(*args: object) -> object:
        assert gate.wait(30)
        return score_volumes(*args)

    monkeypatch.setattr(volume_metric, "score_volumes", slow)
    labels = np.ones((1, 4, 4), dtype=np.uint8)
    metric = VolumeMetric(measures=("Dice",))
    metric.dataset_meta = {"classes": CLASSES}
    items = [sample(f"case{index}", labels, labels).to_dict() for index in range(3)]
    metric.process(None, items[:2])
    assert metric.results == []
    third = threading.Thread(target=metric.process, args=(None, items[2:]))
    third.start()
    third.join(0.2)
    assert third.is_alive()
    gate.set()
    third.join(30)
    seen = []
    monkeypatch.setattr(metric, "compute_metrics", lambda results: seen.extend(r["case"] for r in results) or {})
    metric.evaluate(3)
    assert seen == ["case0", "case1", "case2"]
    assert metric.waited_seconds >= 0.1
    assert metric.scoring_seconds >= 0.1
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("scoring")]


def test_a_case_that_cannot_be_scored_stops_the_loop(printed: list[str]) -> None:
    """At the latest two cases on, not after the whole test set."""
    wrong, *others = cases() + cases()
    wrong.gt_sem_seg.data[0, 0, 0] = 77
    metric = VolumeMetric(measures=("Dice",))
    metric.dataset_meta = {"classes": CLASSES}
    with pytest.raises(UserError, match=r"case0: the ground truth holds the label values \[77\]"):
        metric.process(None, [item.to_dict() for item in (wrong, *others)])


def test_mistakes_are_named(printed: list[str]) -> None:
    with pytest.raises(UserError, match="'Kappa' is not known: expected ASD, AVD, Dice"):
        VolumeMetric(measures=("Kappa",))
    for wrong in ("Dice", dict(type="Dice"), ()):
        with pytest.raises(UserError, match=r"measures=.*expected a list of one or more"):
            VolumeMetric(measures=wrong)
    with pytest.raises(UserError, match="Dice, HD95, Dice: one is there twice"):
        VolumeMetric(measures=("Dice", "HD95", "dice"))
    with pytest.raises(UserError, match="'loose'.*transunet, strict"):
        VolumeMetric(protocols=("loose",))
    with pytest.raises(UserError, match="protocols='strict'.*expected a list"):
        VolumeMetric(protocols="strict")
    wrong = cases()[0]
    wrong.gt_sem_seg.data[0, 0, 0] = 77
    with pytest.raises(UserError, match=r"case0: the ground truth holds the label values \[77\]"):
        evaluate(VolumeMetric(), [wrong])
    with pytest.raises(UserError, match="no case was scored"):
        evaluate(VolumeMetric(), [])
    with pytest.raises(UserError, match="no class names"):
        VolumeMetric().process(None, [cases()[0].to_dict()])


def test_cases_without_a_label_are_told_and_not_scored(printed: list[str], tmp_path: Path) -> None:
    seen, blind = cases()
    expected_alone = evaluate(VolumeMetric(), [seen])
    del blind.gt_sem_seg
    assert evaluate(VolumeMetric(), [seen, blind]) == expected_alone
    assert "Not scored, as they have no label: case1" in printed
    assert evaluate(VolumeMetric(output_dir=str(tmp_path)), [blind]) == {}
    assert not any(tmp_path.iterdir())


def test_regions_are_scored_in_place_of_classes():
    """Regions may overlap: each is the union of its classes, as nnU-Net scores them."""
    rng = np.random.default_rng(0)
    pred, truth = (rng.integers(0, 4, (3, 12, 12)).astype(np.uint8) for _ in range(2))
    regions = {"whole": (1, 2, 3), "core": (2, 3), "enhancing": (3,)}
    values = evaluate(VolumeMetric(per_class=True), [sample("a", pred, truth)], regions=regions)
    for name, members in regions.items():
        masks = np.isin(pred, members), np.isin(truth, members)
        assert values[f"Dice_{name}"] == pytest.approx(100 * dc(*masks), abs=1e-9)
        assert values[f"HD95_{name}"] == pytest.approx(medpy_hd95(*masks), abs=1e-9)
    assert {key for key in values if key.startswith("Dice_")} == {f"Dice_{name}" for name in regions}


@pytest.mark.parametrize("regions", [{}, {"vessel": (1,), "organ": (2, 3)}])
def test_options_by_organ(regions, printed: list[str]) -> None:
    """Classes and regions are known to a measure by their names."""
    names = list(regions) or CLASSES[1:]
    nsd = dict(type="NSD", tolerance={name: 1 + index for index, name in enumerate(names)})
    nsd_of_1 = dict(type="NSD", tolerance=1)
    values = evaluate(VolumeMetric(["Dice", nsd], per_class=True), cases(), regions=regions)
    own = [
        score_case(*(each.data.numpy() for each in (s.pred_sem_seg, s.gt_sem_seg)), 4, s.spacing, metrics=[nsd_of_1])
        for s in cases()
    ]
    assert values[f"NSD_{names[0]}"] == pytest.approx(50 * (own[0][1]["nsd"] + own[1][1]["nsd"]))
    assert f"Dice, NSD ({names[0]} 1, {names[1]} 2" in printed[0]
    with pytest.raises(UserError, match=f"case0: NSD: tolerance has no {names[0]}"):
        evaluate(VolumeMetric([dict(nsd, tolerance={})]), cases(), regions=regions)
    with pytest.raises(UserError, match="case1: NSD .within 1 mm. is measured in mm, but the case has no spacing"):
        evaluate(VolumeMetric([nsd_of_1]), [cases()[0], cases(spacing=None)[1]], regions=regions)


def test_one_region():
    label = np.arange(64, dtype=np.uint8).reshape(1, 8, 8) % 4
    values = evaluate(VolumeMetric(per_class=True), [sample("a", label, label)], regions={"tumor": (1, 3)})
    assert {key for key in values if key.startswith("Dice_")} == {"Dice_tumor"} and values["mDice"] == 100


def test_a_label_that_is_no_class_is_named_with_regions_too():
    wrong = cases()[0]
    wrong.gt_sem_seg.data[0, 0, 0] = 7
    with pytest.raises(
        UserError, match=r"case0: the ground truth holds the label values \[7\], which are none of the 4"
    ):
        evaluate(VolumeMetric(), [wrong], regions={"whole": (1, 2)})


def test_ignored_voxels_are_not_scored():
    truth = np.zeros((2, 8, 8), np.uint8)
    truth[:, 2:6, 2:6] = 1
    pred = truth.copy()
    pred[0, :2] = 2
    strict = dict(protocols=("strict",), per_class=True)
    assert evaluate(VolumeMetric(**strict), [sample("a", pred, truth)])["Dice_liver"] == 0
    truth[0, :2] = 255
    values = evaluate(VolumeMetric(**strict), [sample("a", pred, truth)])
    assert values["Dice_aorta"] == values["mDice"] == 100 and math.isnan(values["Dice_liver"])


def test_an_image_is_scored_by_its_contour() -> None:
    """A volume of one slice is all surface; an image, of which no spacing is known, is not."""
    pred, truth = np.zeros((2, 1, 20, 20), np.uint8)
    pred[:, 2:18, 2:12] = truth[:, 2:18, 4:14] = 1
    for spacing, expected in ((None, score_case(pred[0], truth[0], 2)), ((3.0, 1.0, 1.0), score_case(pred, truth, 2))):
        metric = VolumeMetric(measures=["HD95", "ASD"], protocols=["transunet"])
        values = evaluate(metric, [sample("photo", pred, truth, spacing)], classes=("background", "lesion"))
        assert values == {"mHD95": expected[1]["hd95"], "mASD": expected[1]["asd"]}
