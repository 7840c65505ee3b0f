"""MMSegmentation's names."""

from pathlib import Path

import numpy as np
import pytest
import torch

from medseg_kd.datasets.intensities import Stored
from medseg_kd.datasets.spec import Channel, DataSpec
from medseg_kd.errors import UserError
from medseg_kd.inference import inference_model, init_model
from tests.cli.commands import ROOT
from tests.inference.saved import CLASSES, expected, write_checkpoint


def test_they_take_and_give_what_users_of_openmmlab_know(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "a.pth", DataSpec((Channel("CT", Stored()),), CLASSES, orientation="LPS"))
    model = init_model(None, path, device="cpu")
    assert model.dataset_meta["classes"] == CLASSES and len(model.dataset_meta["palette"]) == 3
    values = np.random.default_rng(0).random((2, 4, 6), np.float32)
    whole = inference_model(model, values)
    assert torch.equal(whole.pred_sem_seg.data, torch.from_numpy(expected(values))) and whole.ori_shape == (4, 6)
    samples = inference_model(model, [values[0], values[1]])
    assert [tuple(sample.pred_sem_seg.data.shape) for sample in samples] == [(1, 4, 6)] * 2
    with pytest.raises(UserError, match="holds a LeftAndRight, the config describes a UNet"):
        init_model(ROOT / "configs/demo/unet_r18_half_phantom.py", path, "cpu")
