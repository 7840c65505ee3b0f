"""A nnU-Net among the models of a run is fitted to its data, and the data to it where their rules are open."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from medseg_kd.configuration.nnunet import take_rules
from medseg_kd.datasets import SliceDataset
from medseg_kd.datasets.volumes import ORIENTATIONS, turned
from medseg_kd.distill import SingleTeacherDistill
from medseg_kd.engine.nnunet_data import fit_to_data, view_on_grid
from medseg_kd.errors import UserError
from medseg_kd.models import NnUNetSegmentor, RegionSegmentor, UNet
from medseg_kd.models.nnunet_folds import View
from tests.datasets.volume_files import write_volume
from tests.distill.pairs import segmentor
from tests.nnunet_results import dataset_json, plans_json, write_json, write_results

CT = {"type": "CTNormalization", "low": -150, "high": 250, "mean": 60, "std": 80}
WINDOW = {"type": "Window", "low": -200, "high": 300}


def raw_folder(root: Path, spacing: tuple[float, float, float] = (2.0, 1.5, 5.0), orientation: str = "RAS") -> Path:
    """A raw data set of five cases; spacing is (x, y, z) in LPS."""
    write_json(root / "dataset.json", dataset_json())
    rng = np.random.default_rng(0)
    for name in "abcde":
        label = rng.integers(0, 3, (2, 12, 10)).astype(np.uint8)
        values = rng.integers(-300, 600, label.shape).astype(np.int16)
        for array, file in ((values, f"imagesTr/{name}_0000"), (label, f"labelsTr/{name}")):
            write_volume(root / f"{file}.nii.gz", array, spacing, orientation)
    return root


def slices(root: Path, rule: Any = CT, **options: Any) -> SliceDataset:
    return SliceDataset(str(root), spec={"channels": {"CT": rule}}, **options)


def taught(results: Path, **options: Any) -> SingleTeacherDistill:
    teacher = {"type": "NnUNetTeacher", "results": str(results), **options}
    return SingleTeacherDistill(segmentor(UNet, num_classes=3), teacher, {"type": "KD"})


def view_of(algorithm: SingleTeacherDistill, dataset: SliceDataset) -> View:
    fit_to_data(algorithm, dataset)
    return algorithm.teacher.network.view


def test_what_a_teacher_sees_of_slices(tmp_path: Path) -> None:
    """Rules, pixels of 1.5 x 2 mm where it had 1 x 1, and files in RAS where the slices lie in LPS."""
    results, raw = write_results(tmp_path / "r"), raw_folder(tmp_path / "Dataset001_Toy")
    own = taught(results)
    assert view_of(own, slices(raw)) == View(flipped=(-2, -1), zoom=(1.5, 2.0))
    view = view_of(own, slices(raw, WINDOW))
    ((low, high, factor, offset),) = view.scales
    np.testing.assert_allclose((low, high, factor, offset), (0.1, 0.9, 500 / 80, (-200 - 60) / 80))
    assert view_of(taught(results, orientation="LPS"), slices(raw)) == View(zoom=(1.5, 2.0))
    assert view_of(own, slices(raw, size=(24, 10))).zoom == (0.75, 2.0)
    raw_folder(tmp_path / "near", (0.96, 1.04, 5), "LPS")
    assert view_of(own, slices(tmp_path / "near")) == View()


def test_an_orientation_is_three_directions(tmp_path: Path) -> None:
    raw = raw_folder(tmp_path / "Dataset001_Toy")
    with pytest.raises(UserError, match="orientation of nnU-Net is 'RAP': expected three directions"):
        fit_to_data(taught(write_results(tmp_path / "r"), orientation="RAP"), slices(raw))


def test_transposed_plans(tmp_path: Path) -> None:
    raw = raw_folder(tmp_path / "Dataset001_Toy", orientation="LPS")
    plans = {**plans_json(spacing=[2.0, 1.5]), "transpose_forward": [0, 2, 1]}
    assert view_of(taught(write_results(tmp_path / "r", plans)), slices(raw)) == View(transposed=True)
    plans["transpose_forward"] = [2, 0, 1]
    with pytest.raises(UserError, match="cuts its slices along another axis"):
        fit_to_data(taught(write_results(tmp_path / "s", plans)), slices(raw))


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (
            {"type": "Window", "low": -100, "high": 300},
            r"cannot be computed from the data's Window\(low=-100.0.*Window from -150",
        ),
        ({"type": "ZScore"}, r"cannot be computed from the data's ZScore.*'type': 'CTNormalization', 'low': -150.0"),
        ({"type": "Percentiles"}, "cannot be computed from the data's Percentiles"),
    ],
    ids=["narrower", "z-score", "percentiles"],
)
def test_intensities_that_were_lost_are_told(rule: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message) as error:
        fit_to_data(taught(write_results(tmp_path / "r")), slices(raw_folder(tmp_path / "Dataset001_Toy"), rule))
    assert str(error.value).count("\n") < 6


def test_other_classes_and_channels_are_told(tmp_path: Path) -> None:
    raw = raw_folder(tmp_path / "Dataset001_Toy")
    other = write_results(tmp_path / "r", dataset=dataset_json({"background": 0, "spleen": 1, "liver": 2}, ("CBCT",)))
    told = r"classes: background, spleen, liver and background, liver, spleen\n  channels: CBCT and CT"
    with pytest.raises(UserError, match=told):
        fit_to_data(taught(other), slices(raw))


@pytest.mark.parametrize("transpose", [[0, 1, 2], [0, 2, 1], [1, 0, 2], [2, 0, 1], [1, 2, 0], [2, 1, 0]])
def test_slices_are_turned_as_whole_cases_are(transpose: list[int]) -> None:
    """For all ways that files may lie: what a teacher sees of a slice is a plane of the volume as nnU-Net takes it."""
    volume = np.random.default_rng(0).random((3, 4, 5)).astype(np.float32)
    slices_of_it = torch.from_numpy(volume)[:, None]
    dataset = SimpleNamespace(spec=SimpleNamespace(orientation="LPS"), part=SimpleNamespace(cases=[]), data_root="")
    seen = 0
    for lies in ORIENTATIONS:
        plan = SimpleNamespace(transpose=transpose, spacing=(1.0, 1.0))
        network: Any = SimpleNamespace(plan=plan, orientation=lies, weights_source="")
        taken = turned(volume, "LPS", lies).transpose(transpose)
        if taken.shape[0] != 3:
            with pytest.raises(UserError, match="cuts its slices along another axis"):
                view_on_grid(network, dataset, (), None)
            continue
        view = view_on_grid(network, dataset, (), None)
        planes = view.of(slices_of_it)
        assert any(np.array_equal(planes[:, 0], each) for each in (taken, taken[::-1]))
        assert torch.equal(view.back(planes), slices_of_it)
        seen += 1
    assert seen == 16


def test_regions_are_taught_as_nnunet_orders_them(tmp_path: Path) -> None:
    content = dataset_json({"background": 0, "whole": [2, 1], "core": [2]}, regions_class_order=[1, 2])
    raw = raw_folder(tmp_path / "Dataset001_Toy")
    write_json(raw / "dataset.json", content)
    dataset = slices(raw)
    student = {**segmentor(UNet, num_classes=3), "type": RegionSegmentor, "regions": list(dataset.spec.decoded)}
    teacher = {"type": "NnUNetTeacher", "results": str(write_results(tmp_path / "r", dataset=content, outputs=2))}
    algorithm = SingleTeacherDistill({**student, "losses": [{"type": "RegionLoss"}]}, teacher, {"type": "CWD"})
    fit_to_data(algorithm, dataset)
    items = [dataset[index] for index in range(2)]
    batch = (torch.stack([item[key] for item in items]) for key in ("inputs", "labels"))
    assert algorithm(*batch, mode="loss")["distill.loss_cwd"] > 0
    assert algorithm.teacher.regions == algorithm.student.regions == (("whole", (1, 2), 1), ("core", (2,), 2))


def test_values_stored_by_an_unknown_rule_are_told(phantom: Path, tmp_path: Path) -> None:
    dataset = SliceDataset(str(phantom))
    names = dict(zip(dataset.spec.classes, range(9), strict=True))
    results = write_results(tmp_path, dataset=dataset_json(names, (dataset.spec.channels[0].name,)), outputs=9)
    teacher = {"type": "NnUNetTeacher", "results": str(results)}
    algorithm = SingleTeacherDistill(segmentor(UNet, num_classes=9), teacher, {"type": "KD"})
    with pytest.raises(UserError, match="stored by a rule that is not known.*channels="):
        fit_to_data(algorithm, dataset)


def test_open_rules_are_taken_from_the_plans(tmp_path: Path) -> None:
    results, raw = write_results(tmp_path / "r"), raw_folder(tmp_path / "Dataset001_Toy")
    model = {"type": "NnUNetSegmentor", "results": str(results)}
    student, alone, said = ({"data_root": str(raw)} for _ in range(3))
    said["spec"] = {"channels": {"CT": WINDOW}}
    take_rules({"type": "SingleTeacherDistill", "teacher": model}, [student, said])
    assert student["spec"]["channels"] == [("CT", {**CT, "low": -150.0, "high": 250.0, "mean": 60.0, "std": 80.0})]
    assert said["spec"]["channels"] == {"CT": WINDOW}
    take_rules(model, [alone])
    assert alone["spec"]["channels"] == [("CT", {"type": "NoNormalization"})]
    network = NnUNetSegmentor(str(results))
    fit_to_data(network, SliceDataset(str(raw), spec=alone["spec"]))
    assert network.sees_raw
    with pytest.raises(UserError, match="holds no plans.json"):
        take_rules({"type": "NnUNetSegmentor", "results": str(tmp_path)}, [{"data_root": str(raw)}])
