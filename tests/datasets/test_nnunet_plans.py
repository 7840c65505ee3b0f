"""Plans of nnU-Net: rules that equal its own by arithmetic, and what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medseg_kd.datasets import RGB8, Channel, CTNormalization, DataSpec, NoNormalization, Percentiles, Stored, ZScore
from medseg_kd.datasets.nnunet_plans import planned_rules, with_rules
from medseg_kd.errors import UserError
from medseg_kd.nnunet_files import read_plan
from tests.nnunet_results import ARCHITECTURE, OLD_KEYS, plans_json, write_json


def test_plans_tell_rules_and_patches(tmp_path: Path) -> None:
    schemes = [
        ("CTNormalization", False),
        ("ZScoreNormalization", True),
        ("NoNormalization", False),
        ("RescaleTo01Normalization", False),
        ("RGBTo01Normalization", False),
    ]
    path = write_json(tmp_path / "nnUNetPlans.json", plans_json(*schemes, spacing=[0.8, 0.7]))
    rules, plan = planned_rules(path)
    assert rules == (CTNormalization(-150, 250, 60, 80), ZScore(True), NoNormalization(), Percentiles(0, 100), RGB8())
    assert (plan.patch_size, plan.spacing, plan.batch_size) == ((32, 24), (0.8, 0.7), 12)
    assert plan.transpose == (0, 1, 2)
    assert plan.orders == (3, 1)


def test_ct_is_clipped_and_standardised() -> None:
    values = np.array([-1000, -150, 60, 140, 3000], np.int16)
    np.testing.assert_allclose(CTNormalization(-150, 250, 60, 80)(values), [-2.625, -2.625, 0, 1, 2.375], atol=1e-6)
    np.testing.assert_array_equal(NoNormalization()(values), values.astype(np.float32))
    with pytest.raises(UserError, match="lie outside the window -150 250"):
        CTNormalization(-150, 250, 60, 80)(np.full(3, -1000))
    with pytest.raises(UserError, match="std -1: expected numbers"):
        CTNormalization(-150, 250, 60, -1)


def test_rules_enter_a_spec_and_its_json() -> None:
    rule = CTNormalization(-150, 250, 60, 80)
    spec = with_rules(DataSpec((Channel("CT", Stored()),), ("background", "a")), (rule,), "plans.json")
    assert spec.channels == (Channel("CT", rule),)
    assert DataSpec.from_json(spec.to_json(), "it") == spec
    with pytest.raises(UserError, match=r"plans.json: rules for 2 channel\(s\), but the data have 1 \(CT\)"):
        with_rules(spec, (rule, rule), "plans.json")


def test_plans_of_earlier_versions_describe_the_same_network(tmp_path: Path) -> None:
    plans = plans_json(**OLD_KEYS)
    del plans["configurations"]["2d"]["architecture"]
    plans["foreground_intensity_properties_by_modality"] = plans.pop("foreground_intensity_properties_per_channel")
    old = read_plan(write_json(tmp_path / "plans.json", plans)).architecture
    own = ARCHITECTURE["arch_kwargs"]
    short = {"conv_op": "torch.nn.Conv2d", "norm_op": "torch.nn.InstanceNorm2d"}
    assert old == {**ARCHITECTURE, "arch_kwargs": {**own, **short}}


def test_a_configuration_inherits(tmp_path: Path) -> None:
    plans = plans_json()
    plans["configurations"]["2d_bs4"] = {"batch_size": 4, "inherits_from": "2d"}
    path = write_json(tmp_path / "plans.json", plans)
    assert (read_plan(path, "2d_bs4").batch_size, read_plan(path, "2d_bs4").patch_size) == (4, (32, 24))
    plans["configurations"]["2d"]["inherits_from"] = "2d_bs4"
    write_json(path, plans)
    with pytest.raises(UserError, match="goes round in a circle: 2d, 2d_bs4, 2d"):
        read_plan(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patch_size": [32, "24"]}, "patch_size is .*expected numbers"),
        ({"spacing": [0, 1]}, "spacing is .*expected numbers"),
        ({"resampling_fn_data_kwargs": {"force_separate_z": False}}, "force_separate_z': False.*the usual settings"),
        ({"inherits_from": ["2d"]}, "has no configuration"),
        ({"spacing": None}, "spacing is None: expected a list"),
        ({"batch_size": 0}, "batch_size is 0: expected a number above 0"),
        ({"normalization_schemes": []}, "0 normalization_schemes, but 1 use_mask_for_norm"),
        ({"normalization_schemes": ["os.system"]}, "scaled by 'os.system': expected one of CTNormalization"),
        ({"resampling_fn_data": "os.system"}, "resampling_fn_data is 'os.system': expected nnU-Net's usual"),
        ({"preprocessor_name": "MyPreprocessor"}, "preprocessor_name is 'MyPreprocessor': expected nnU-Net's usual"),
        ({"previous_stage": "3d_lowres"}, "previous_stage is '3d_lowres': expected nnU-Net's usual None"),
        ({"resampling_fn_data_kwargs": {"order": 9}}, "resampling_fn_data_kwargs is .*expected an order"),
        ({"architecture": None}, "neither an architecture nor a UNet_class_name"),
    ],
    ids=lambda each: "" if isinstance(each, str) else next(iter(each)),
)
def test_what_plans_cannot_be(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        planned_rules(write_json(tmp_path / "plans.json", plans_json(**changes)))


def test_numbers_of_ct_have_to_be_there(tmp_path: Path) -> None:
    plans = plans_json()
    del plans["foreground_intensity_properties_per_channel"]["0"]["std"]
    with pytest.raises(UserError, match=r"channel 0 is scaled by CTNormalization, but .*None"):
        read_plan(write_json(tmp_path / "plans.json", plans))
    with pytest.raises(UserError, match=r"has no configuration '2dd'; did you mean 2d\?"):
        read_plan(tmp_path / "plans.json", "2dd")
