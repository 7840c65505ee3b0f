"""Masks scored as files: what score_case gives for the same arrays, whatever form they are in."""

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest

from medseg_kd.datasets.masks import MaskPair
from medseg_kd.errors import UserError
from medseg_kd.evaluation import score_case
from medseg_kd.evaluation.measures.surface_distance import HD95, NSD
from medseg_kd.experiments import masks
from medseg_kd.experiments.masks import evaluate
from tests.datasets.volume_files import SPACING, write_volume

NAMES = {"background": 0, "liver": 1, "spleen": 2, "aorta": 3}
MEASURES = ["Dice", "Jaccard", HD95(), "ASD", NSD(2.0), "RAVD", "AVD"]


def volumes(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Boxes of three organs; the spleen of case 1 is missed, and its aorta invented."""
    pred, truth = np.zeros((2, 5, 12, 14), np.uint8)
    truth[1:4, 1:5, 1 : 5 + seed], pred[1:4, 2:5, 1:6] = 1, 1
    truth[1:3, 7:11, 2:6], pred[1:3, 7:10, 2 + seed : 6] = 2, 0 if seed == 1 else 2
    pred[2:4, 8:11, 9:12] = 3
    truth[2:4, 8:11, 8:12] = 0 if seed == 1 else 3
    return pred, truth


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Three cases with nnU-Net's names, a ``dataset.json`` beside ``labelsTr``."""
    for seed in range(3):
        for folder, array in zip(("found", "raw/labelsTr"), volumes(seed), strict=True):
            write_volume(tmp_path / folder / f"case{seed}.nii.gz", array, orientation="RAS" if seed else "LPS")
    (tmp_path / "raw/dataset.json").write_text(json.dumps({"labels": NAMES, "channel_names": {"0": "CT"}}))
    return tmp_path / "found", tmp_path / "raw/labelsTr"


def as_organs(folder: Path, like: Path, names: dict[str, int] = NAMES) -> Path:
    """The same masks with a file for each organ."""
    for seed in range(3):
        for name, value in list(names.items())[1:]:
            array = volumes(seed)[like.name != "found"] == value
            write_volume(folder / f"case{seed}/{name}.nii.gz", array.astype(np.uint8) * (1 if value == 1 else 255))
    return folder


def check_organ(got: dict, expected: dict) -> None:
    assert got["status"] == expected["status"]
    keys = [key for key in expected if key != "status"]
    np.testing.assert_allclose([got[key] for key in keys], [expected[key] for key in keys], rtol=1e-6)


def check_scores(found: masks.Evaluation, cases=range(3)) -> None:
    assert not found.failed
    for summary in found.summaries:
        assert [case for case, _ in summary.cases] == [f"case{seed}" for seed in cases]
        for seed, (_, scores) in zip(cases, summary.cases, strict=True):
            expected = score_case(*volumes(seed), 4, SPACING[::-1], summary.protocol, MEASURES)
            order = [list(NAMES)[1:].index(name) + 1 for name in summary.per_class]
            for got, number in zip(scores.values(), order, strict=True):
                check_organ(got, expected[number])


@pytest.mark.parametrize("jobs", [1, 2])
def test_the_scores_are_those_of_the_arrays(folders: tuple[Path, Path], jobs: int) -> None:
    found = evaluate(*folders, jobs=jobs)
    check_scores(found)
    assert found.notes == [f"labels are those of {folders[1].parent / 'dataset.json'}"]
    transunet, strict = found.summaries
    assert (transunet.unit, strict.unit) == ("voxel", "mm")
    assert strict.counts["spleen"] == {"ok": 2, "missed": 1} and strict.counts["aorta"] == {"ok": 2, "false_alarm": 1}
    worth = {each.protocol: each.cases[1][1] for each in found.summaries}
    assert worth["transunet"][2]["dice"] == 0 and worth["transunet"][3]["dice"] == 1
    assert worth["strict"][3]["dice"] == 0 and math.isnan(worth["strict"][3]["hd95"])


def test_strict_alone_is_measured_in_mm_alone(folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    measure_case = masks.score_volumes.__globals__["measure_case"]

    def seen(pred, truth, count, spacings, *rest):
        sizes.append(list(spacings))
        return measure_case(pred, truth, count, spacings, *rest)

    monkeypatch.setitem(masks.score_volumes.__globals__, "measure_case", seen)
    found = evaluate(*folders, protocols=["strict"], jobs=1)
    assert sizes == [["mm"]] * 3
    check_scores(found)


@pytest.mark.parametrize("side", ["both", "prediction", "truth"])
def test_a_file_for_each_organ(folders: tuple[Path, Path], tmp_path: Path, side: str) -> None:
    found, truth = folders
    found = as_organs(tmp_path / "organs_found", found) if side != "truth" else found
    truth = as_organs(tmp_path / "organs_true", truth) if side != "prediction" else truth
    if side == "truth":
        with pytest.raises(UserError, match="files of all organs and files of single ones"):
            evaluate(found, truth)
    check_scores(evaluate(found, truth, labels=folders[1].parent / "dataset.json" if side == "truth" else None, jobs=1))


def test_an_organ_without_a_file(folders: tuple[Path, Path], tmp_path: Path) -> None:
    found, truth = (as_organs(tmp_path / f"organs_{each.name}", each) for each in folders)
    (found / "case1/spleen.nii.gz").unlink()  # which is empty
    (truth / "case1/aorta.nii.gz").unlink()
    failed = evaluate(found, truth, jobs=1)
    assert [*failed.failed] == ["case1"]
    assert "labelsTr/case1 has no file of the organ aorta: it has liver, spleen" in failed.failed["case1"]
    assert failed.notes == ["1 of 3 cases could not be scored and are in no mean: case1"]
    check_scores(evaluate(found, truth, allow_missing=True, jobs=1))


def test_names_of_labels(folders: tuple[Path, Path]) -> None:
    description = folders[1].parent / "dataset.json"
    named = evaluate(*folders, classes=["background", "liver", "spleen", "aorta"], measures=["Dice"], jobs=1)
    assert list(named.summaries[0].per_class) == ["liver", "spleen", "aorta"] and not named.notes
    description.write_text(json.dumps({"labels": {"all": [1, 2, 3], "background": 0, "liver": 1}}))
    regions = evaluate(*folders, measures=["Dice"], jobs=1).summaries[1]
    assert list(regions.per_class) == ["all", "liver"]
    pred, truth = volumes(0)
    expected = score_case(pred > 0, truth > 0, 2, metrics=["Dice"])[1]["dice"]
    assert regions.cases[0][1][1]["dice"] == pytest.approx(expected)
    description.unlink()
    unnamed = evaluate(*folders, measures=["Dice"], jobs=1)
    assert list(unnamed.summaries[0].per_class) == ["1", "2", "3"]
    assert unnamed.notes == [
        f"no label names beside {folders[1]}: organs are called by the values found there, 1, 2, 3"
    ]


@pytest.mark.parametrize("form", ["labels", "organs"])
def test_what_is_nowhere(tmp_path: Path, form: str) -> None:
    for folder in ("found", "truth"):
        path = tmp_path / folder / ("a.nii.gz" if form == "labels" else "a/liver.nii.gz")
        write_volume(path, np.zeros((2, 5, 4), np.uint8))
    found = evaluate(tmp_path / "found", tmp_path / "truth", classes=["background", "liver"])
    transunet, strict = found.summaries
    assert not found.failed and transunet.counts["liver"] == {"empty": 1}
    assert transunet.mean["Dice"] == 0 and math.isnan(strict.mean["Dice"])


def test_why_no_truth_can_be_read(tmp_path: Path) -> None:
    for name in ("found", "truth"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.nii.gz").write_text("no volume")
    with pytest.raises(UserError, match=r"no mask of .*truth can be read: (.|\n)*truth/a.nii.gz: damaged or cut short"):
        evaluate(tmp_path / "found", tmp_path / "truth", jobs=1)


def test_ignored_voxels(folders: tuple[Path, Path]) -> None:
    (folders[1].parent / "dataset.json").write_text(
        json.dumps({"labels": {"background": 0, "liver": 1, "spleen": 2, "ignore": 3}})
    )
    scores = evaluate(*folders, measures=["Dice"], jobs=1)
    assert "found/case0.nii.gz holds the label values 3" in scores.failed["case0"]  # a prediction ignores nothing
    pred, truth = volumes(0)
    write_volume(folders[0] / "case0.nii.gz", np.where(pred == 3, 1, pred))
    pred[...] = np.where(truth == 3, 0, np.where(pred == 3, 1, pred))
    scores = evaluate(*folders, measures=["Dice"], jobs=1)
    expected = score_case(pred, np.where(truth == 3, 0, truth), 3, metrics=["Dice"])
    assert scores.summaries[0].cases[0][1] == expected


def test_black_and_white(tmp_path: Path) -> None:
    for seed in range(2):
        for folder, array in zip(("found", "truth"), volumes(seed), strict=True):
            write_volume(tmp_path / folder / f"{seed}.mha", np.uint8(array == 1) * (255 if folder == "found" else 1))
    found = evaluate(tmp_path / "found", tmp_path / "truth", classes=["background", "liver"], measures=["Dice"])
    assert not found.failed and found.summaries[0].mean["Dice"] > 50


def test_one_bad_case_does_not_stop_the_rest(folders: tuple[Path, Path]) -> None:
    found, truth = folders
    pred, _ = volumes(0)
    write_volume(found / "case0.nii.gz", np.where(pred == 1, 7, pred).astype(np.uint8))
    (found / "case1.nii.gz").write_text("no volume")
    result = evaluate(found, truth, jobs=2)
    assert [*result.failed] == ["case0", "case1"]
    assert result.failed["case0"].startswith(f"{found / 'case0.nii.gz'} holds the label values 7, which are none of")
    assert "(liver 1, spleen 2, aorta 3)" in result.failed["case0"]
    assert "cannot read" in result.failed["case1"]
    check_scores(result.__class__(result.summaries, {}, ()), cases=[2])
    for name in ("case2.nii.gz", "case0.nii.gz"):
        (found / name).write_text("no volume")
    nothing = evaluate(found, truth, jobs=1)
    assert len(nothing.failed) == 3 and not nothing.summaries


def dies_at_case1(pair: MaskPair) -> list[int]:
    if pair.case == "case1":
        os._exit(9)
    return [1]


def test_a_process_that_dies_takes_no_other_case_along(folders: tuple[Path, Path]) -> None:
    pairs, _ = masks.pair_masks(*folders)
    first, second, third = masks._in_processes(dies_at_case1, pairs, 2)
    assert first == third == [1]
    assert second == "its process was killed or died. Mostly memory is full: lower --jobs"


def test_options(folders: tuple[Path, Path]) -> None:
    tolerance = {"liver": 1.0, "spleen": 2.0, "aorta": 3.0}
    found = evaluate(*folders, measures=["Dice", "hd95", "NSD"], hd95="monai", tolerance=tolerance, jobs=1)
    expected = score_case(*volumes(0), 4, SPACING[::-1], "strict", [HD95("monai"), NSD(tolerance)], names=list(NAMES))
    for got, each in zip(found.summaries[1].cases[0][1].values(), expected.values(), strict=True):
        check_organ(got, each)
    for options, message in (
        ({"tolerance": {"liver": 1.0}}, "NSD: tolerance has no spleen, aorta"),
        ({"measures": ["IoU"]}, "measure 'IoU' is not known"),
        ({"hd95": "itk"}, "HD95: convention='itk'"),
        ({"classes": ["a"], "labels": "dataset.json"}, "--classes and --labels: give one"),
        ({"classes": ["background", "a", "a"]}, "--classes background a a: expected a different name for each"),
        ({"classes": ["liver", "spleen", "aorta"]}, "background first"),
        ({"labels": "nowhere.json"}, "nowhere.json"),
        ({"jobs": 0}, "--jobs 0"),
    ):
        with pytest.raises(UserError, match=message):
            evaluate(*folders, **options)
