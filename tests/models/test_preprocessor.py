"""From collated samples to a batch."""

import numpy as np
import pytest
import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from scipy.ndimage import zoom
from torch import nn

from medseg_kd.errors import UserError
from medseg_kd.models import RandomRotateFlip, SlicePreprocessor
from medseg_kd.registry import MODELS


class Negative(nn.Module):
    """An augmentation that can be seen."""

    def forward(self, images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return -images, labels + 1


def sample(label: torch.Tensor) -> SegDataSample:
    return SegDataSample(gt_sem_seg=PixelData(data=label), metainfo={"case_name": "case0001"})


def slices(*sizes: tuple[int, int]) -> dict:
    """Slices of ones with label 2."""
    return {
        "inputs": [torch.ones(1, *size) for size in sizes],
        "data_samples": [sample(torch.full((1, *size), 2)) for size in sizes],
    }


def test_slices_of_one_size_are_stacked_as_they_are():
    data = slices((6, 8), (6, 8))
    data["inputs"][1] *= 0.5
    out = SlicePreprocessor()(data)
    assert out["inputs"].dtype == torch.float32
    assert torch.equal(out["inputs"], torch.stack([torch.ones(1, 6, 8), torch.full((1, 6, 8), 0.5)]))
    assert out["data_samples"][0].case_name == "case0001"


def test_slices_of_different_sizes_are_padded_with_air_and_ignored():
    out = SlicePreprocessor(ignore_index=77)(slices((6, 8), (9, 5)))
    assert out["inputs"].shape == (2, 1, 9, 8)
    for image, one, (height, width) in zip(out["inputs"], out["data_samples"], ((6, 8), (9, 5)), strict=True):
        label = one.gt_sem_seg.data
        assert label.shape == (1, 9, 8) and label.dtype == torch.int64
        inside = torch.zeros(9, 8, dtype=torch.bool)
        inside[:height, :width] = True
        assert (image[0][inside] == 1).all() and (image[0][~inside] == 0).all()
        assert (label[0][inside] == 2).all() and (label[0][~inside] == 77).all()


def test_integer_images_become_float():
    data = slices((4, 4))
    data["inputs"] = [torch.ones(1, 4, 4, dtype=torch.uint8)]
    assert SlicePreprocessor()(data)["inputs"].dtype == torch.float32


@pytest.mark.parametrize("size", [(8, 12), (32, 20), (11, 7)])
def test_resized_image_and_label_stay_aligned(size):
    """A centred square stays centred in both, up and down."""
    label = torch.zeros(1, 16, 20, dtype=torch.long)
    label[:, 4:12, 6:14] = 1
    out = SlicePreprocessor(size=size)({"inputs": [label.float()], "data_samples": [sample(label)]})
    resized = out["data_samples"][0].gt_sem_seg.data
    assert out["inputs"].shape == (1, 1, *size) and resized.shape == (1, *size)
    grids = torch.meshgrid(*(torch.linspace(-1, 1, n) for n in size), indexing="ij")
    for weight in (out["inputs"][0, 0], resized[0].float()):
        for grid in grids:
            assert (weight * grid).sum() / weight.sum() == pytest.approx(0, abs=1e-4)


def test_resized_labels_are_not_blended():
    label = torch.tensor([0, 8, 255])[torch.randint(3, (1, 16, 20))]
    out = SlicePreprocessor(size=(11, 13))({"inputs": [torch.rand(1, 16, 20)], "data_samples": [sample(label)]})
    assert set(out["data_samples"][0].gt_sem_seg.data.unique().tolist()) <= {0, 8, 255}


def test_training_slices_resampled_as_transunet_does():
    image, label = torch.rand(1, 16, 20), torch.tensor([0, 8, 255])[torch.randint(3, (1, 16, 20))]
    preprocessor = SlicePreprocessor(size=(8, 30), resampling="transunet")
    out = preprocessor({"inputs": [image], "data_samples": [sample(label)]}, training=True)
    assert np.array_equal(out["inputs"][0, 0].numpy(), zoom(image[0].numpy(), (0.5, 1.5), order=3))
    resized = out["data_samples"][0].gt_sem_seg.data
    assert resized.dtype == torch.int64
    assert np.array_equal(resized[0].numpy(), zoom(label[0].numpy(), (0.5, 1.5), order=0))


def test_an_unknown_resampling():
    with pytest.raises(UserError, match=r"resampling is 'cubic': expected one of bilinear, transunet"):
        SlicePreprocessor(resampling="cubic")


def test_no_size_and_the_same_size_leave_the_pixels_alone():
    image = torch.rand(2, 1, 6, 8)
    assert SlicePreprocessor().resize(image) is image
    assert SlicePreprocessor(size=[6, 8]).resize(image) is image


def test_augmentation_in_training_only():
    preprocessor = SlicePreprocessor(augmentation=dict(type=Negative))
    plain = preprocessor(slices((4, 4)))
    augmented = preprocessor(slices((4, 4)), training=True)
    assert (plain["inputs"] == 1).all() and (plain["data_samples"][0].gt_sem_seg.data == 2).all()
    assert (augmented["inputs"] == -1).all() and (augmented["data_samples"][0].gt_sem_seg.data == 3).all()


def test_volumes_pass_unchanged():
    data = {"inputs": [torch.rand(3, 1, 6, 8)], "data_samples": [sample(torch.zeros(3, 6, 8))]}
    out = SlicePreprocessor(size=(4, 4), augmentation=dict(type=Negative))(data)
    assert out["inputs"][0] is data["inputs"][0] and out["data_samples"] is data["data_samples"]


@pytest.mark.parametrize("samples", [None, [SegDataSample()]])
def test_slices_without_labels(samples):
    out = SlicePreprocessor(size=(4, 4))({"inputs": [torch.rand(1, 6, 8)], "data_samples": samples})
    assert out["inputs"].shape == (1, 1, 4, 4)
    assert (out["data_samples"] is None) == (samples is None)


def test_it_is_built_by_name():
    built = MODELS.build(dict(type="SlicePreprocessor", augmentation=dict(type="RandomRotateFlip")))
    assert isinstance(built, SlicePreprocessor) and isinstance(built.augmentation, RandomRotateFlip)
