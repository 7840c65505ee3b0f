import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from medseg_kd.datasets import CaseDataset, SliceDataset, Window, ZScore
from medseg_kd.datasets.formats import MSD, NNUNet
from medseg_kd.errors import UserError
from tests.raw_downloads import heart, write_msd

TWO = {"0": "T2", "1": "ADC"}


@pytest.fixture
def task(tmp_path: Path) -> Path:
    return write_msd(tmp_path / "Task02_Heart", "abcdef", TWO)


def _describe(root: Path, **changed: Any) -> Path:
    content = json.loads((root / "dataset.json").read_text())
    (root / "dataset.json").write_text(json.dumps({**content, **changed}))
    return root


def test_a_task_is_read_as_it_is(task: Path):
    dataset = CaseDataset(str(task))
    assert isinstance(dataset.format, MSD)
    assert dataset.case_names == ["heart_d", "heart_f"]  # nnU-Net's first fold
    assert [(each.name, each.intensity) for each in dataset.spec.channels] == [("T2", ZScore()), ("ADC", ZScore())]
    assert dataset.spec.classes == ("background", "RV", "MYO", "LV")
    item = dataset[0]
    for channel, seed in enumerate((ord("d"), 1000 + ord("d"))):
        values = heart(seed)[0]
        expected = (values - values.mean()) / values.std()
        np.testing.assert_allclose(item["inputs"][:, channel], expected, atol=1e-5)
    np.testing.assert_array_equal(item["labels"], heart(ord("d"))[1])
    assert item["meta"]["spacing"] == (5.0, 1.5, 1.5)
    assert SliceDataset(str(task), format_options={"fold": 4}).case_names == [f"heart_{name}" for name in "abdef"]


def test_images_without_labels_are_predicted(task: Path):
    dataset = CaseDataset(str(task), format_options={"unlabelled": True})
    assert dataset.case_names == ["heart_y", "heart_z"]
    assert dataset[0]["labels"] is None and dataset[0]["inputs"].shape == (3, 2, 36, 32)


def test_one_channel_is_a_volume(tmp_path: Path):
    task = write_msd(tmp_path, "abcde", {"0": "CT"})
    with pytest.raises(UserError, match="names the channel CT: .*--from-plans"):
        SliceDataset(str(task))
    spec = {"channels": {"CT": Window(0, 300)}}
    assert SliceDataset(str(task), spec=spec)[0]["inputs"].shape == (1, 36, 32)


def test_what_nnunet_made_of_a_task_is_nnunets(tmp_path: Path):
    task = write_msd(tmp_path, "abcde", {"0": "MRI"})
    for path in (task / "imagesTr").glob("heart_*"):
        path.rename(path.with_name(path.name.replace(".nii.gz", "_0000.nii.gz")))
    dataset = SliceDataset(str(task))
    assert type(dataset.format) is NNUNet and len(dataset.case_names) == 4


def test_channels_and_lists_that_do_not_fit(task: Path):
    with pytest.raises(UserError, match=r"heart_a.nii.gz has the size \(32, 36, 3, 2\): expected 3 channels"):
        SliceDataset(str(_describe(task, modality={**TWO, "2": "T1"})))
    with pytest.raises(UserError, match="has 4 dimensions .* expected one volume"):
        SliceDataset(str(_describe(task, modality={"0": "T2"})))
    entries = json.loads((_describe(task, modality=TWO) / "dataset.json").read_text())["training"]
    for training, message in (
        (entries[:-1], "numTraining is 6, but 5 cases are there"),
        ([*entries, entries[0]], r"training\[6\] names the case heart_a once more"),
        ([entries[0], {"image": "../x.nii.gz"}], r"training\[1\] names ../x.nii.gz, which lies outside"),
        ([entries[0], {"image": entries[1]["image"]}], r"training\[1\] is None: expected a str"),
        ([entries[0], 3], r"training\[1\] is 3: expected a dict"),
    ):
        with pytest.raises(UserError, match=message):
            SliceDataset(str(_describe(task, training=training)))
    _describe(task, training=entries)
    label = task / "labelsTr/heart_b.nii.gz"
    image = sitk.ReadImage(str(label))
    image.SetSpacing((1.5, 1.5, 6.0))
    sitk.WriteImage(image, str(label))
    with pytest.raises(UserError, match="heart_b.nii.gz and heart_b.nii.gz differ in spacing"):
        SliceDataset(str(task))
