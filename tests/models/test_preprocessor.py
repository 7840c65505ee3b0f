"""From collated samples to a batch."""

from typing import Any

import pytest
import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import nn

from medseg_kd.errors import UserError
from medseg_kd.models import RandomRotateFlip, SlicePreprocessor
from medseg_kd.registry import MODELS


class Negative(nn.Module):
    """An augmentation that can be seen."""

    def forward(self, images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return -images, labels + 1


def batch(image: torch.Tensor, label: torch.Tensor) -> dict:
    """One slice (C, H, W) with its label (H, W)."""
    return {"inputs": image[None], "labels": label[None], "meta": [{"case_name": "case0001"}]}


def slices(*sizes: tuple[int, int]) -> dict:
    """Slices of ones with label 2, as MMEngine's collation leaves them."""
    return {
        "inputs": [torch.ones(1, *size) for size in sizes],
        "labels": [torch.full(size, 2, dtype=torch.uint8) for size in sizes],
        "meta": [{"case_name": "case0001"} for _ in sizes],
    }


def test_slices_of_one_size_are_stacked_as_they_are():
    data = slices((6, 8), (6, 8))
    data["inputs"][1] *= 0.5
    out = SlicePreprocessor()(data)
    assert out["inputs"].dtype == torch.float32
    assert torch.equal(out["inputs"], torch.stack([torch.ones(1, 6, 8), torch.full((1, 6, 8), 0.5)]))
    assert out["meta"][0]["case_name"] == "case0001"


def test_slices_of_different_sizes_are_padded_with_air_and_ignored():
    out = SlicePreprocessor(ignore_index=77)(slices((6, 8), (9, 5)))
    assert out["inputs"].shape == (2, 1, 9, 8)
    assert out["labels"].shape == (2, 9, 8) and out["labels"].dtype == torch.uint8
    for image, label, (height, width) in zip(out["inputs"], out["labels"], ((6, 8), (9, 5)), strict=True):
        inside = torch.zeros(9, 8, dtype=torch.bool)
        inside[:height, :width] = True
        assert (image[0][inside] == 1).all() and (image[0][~inside] == 0).all()
        assert (label[inside] == 2).all() and (label[~inside] == 77).all()


def test_integer_images_become_float():
    data = slices((4, 4))
    data["inputs"] = [torch.ones(1, 4, 4, dtype=torch.uint8)]
    assert SlicePreprocessor()(data)["inputs"].dtype == torch.float32


@pytest.mark.parametrize("size", [(8, 12), (32, 20), (11, 7)])
def test_resized_image_and_label_stay_aligned(size):
    """A centred square stays centred in both, up and down."""
    label = torch.zeros(16, 20, dtype=torch.uint8)
    label[4:12, 6:14] = 1
    out = SlicePreprocessor(size=size)(batch(label[None].float(), label))
    resized = out["labels"]
    assert out["inputs"].shape == (1, 1, *size) and resized.shape == (1, *size)
    grids = torch.meshgrid(*(torch.linspace(-1, 1, n) for n in size), indexing="ij")
    for weight in (out["inputs"][0, 0], resized[0].float()):
        for grid in grids:
            assert (weight * grid).sum() / weight.sum() == pytest.approx(0, abs=1e-4)


def test_resized_labels_are_not_blended():
    label = torch.tensor([0, 8, 255], dtype=torch.uint8)[torch.randint(3, (16, 20))]
    out = SlicePreprocessor(size=(11, 13))(batch(torch.rand(1, 16, 20), label))
    assert set(out["labels"].unique().tolist()) == {0, 8, 255}


@pytest.mark.parametrize("name", ["cubic", "transunet"])
def test_resampling_of_transunet_belongs_to_the_reading(name):
    with pytest.raises(UserError, match=rf"resampling is '{name}': expected bilinear.* dataset.size=\(224, 224\)"):
        SlicePreprocessor(size=(224, 224), resampling=name)


def test_no_size_and_the_same_size_leave_the_pixels_alone():
    image = torch.rand(2, 1, 6, 8)
    assert SlicePreprocessor().resize(image) is image
    assert SlicePreprocessor(size=[6, 8]).resize(image) is image


def test_augmentation_in_training_only():
    preprocessor = SlicePreprocessor(augmentation=dict(type=Negative))
    plain = preprocessor(slices((4, 4)))
    augmented = preprocessor(slices((4, 4)), training=True)
    assert (plain["inputs"] == 1).all() and (plain["labels"] == 2).all()
    assert (augmented["inputs"] == -1).all() and (augmented["labels"] == 3).all()


def test_soft_labels_are_resized_as_the_image():
    torch.manual_seed(0)
    soft = torch.rand(2, 3, 12, 10).softmax(1)
    data = {"inputs": soft, "labels": soft.argmax(1).to(torch.uint8), "meta": None, "soft": soft}
    out = SlicePreprocessor(size=(6, 8))(data)
    assert torch.allclose(out["soft"], out["inputs"], atol=1e-6)


def test_an_augmentation_that_would_not_move_soft_labels_is_refused():
    data = {**slices((6, 8)), "soft": torch.ones(1, 2, 6, 8)}
    preprocessor = SlicePreprocessor()
    preprocessor.augmentation = Negative()
    with pytest.raises(UserError, match="Negative has no argument soft"):
        preprocessor(data, training=True)


def test_volumes_pass_unchanged():
    data = {"inputs": [torch.rand(3, 1, 6, 8)], "labels": [torch.zeros(3, 6, 8)], "meta": [{}]}
    out = SlicePreprocessor(size=(4, 4), augmentation=dict(type=Negative))(data)
    assert out["inputs"][0] is data["inputs"][0] and out["labels"] is data["labels"]


@pytest.mark.parametrize("given", [{}, {"labels": [None]}, {"data_samples": None}, {"data_samples": [SegDataSample()]}])
def test_slices_without_labels(given):
    out = SlicePreprocessor(size=(4, 4))({"inputs": [torch.rand(1, 6, 8)], **given})
    assert out["inputs"].shape == (1, 1, 4, 4) and out["labels"] is None


def test_samples_of_mmsegmentation_become_tensors():
    sample = SegDataSample(gt_sem_seg=PixelData(data=torch.full((1, 6, 8), 3)), metainfo={"case_name": "case0001"})
    out = SlicePreprocessor()({"inputs": [torch.rand(1, 6, 8)], "data_samples": [sample]})
    assert torch.equal(out["labels"], torch.full((1, 6, 8), 3, dtype=torch.uint8))
    assert out["meta"][0]["case_name"] == "case0001"


def test_each_slice_is_resized_before_they_are_stacked():
    """Padding the small one to the large one first would leave it half the scale."""
    small, large = torch.zeros(8, 8, dtype=torch.uint8), torch.zeros(16, 16, dtype=torch.uint8)
    small[2:6, 2:6] = large[4:12, 4:12] = 1
    data = {"inputs": [small[None].float(), large[None].float()], "labels": [small, large], "meta": [{}, {}]}
    out = SlicePreprocessor(size=(16, 16))(data)
    assert torch.equal(out["labels"][0], out["labels"][1])
    assert out["inputs"][0].sum() == pytest.approx(float(out["inputs"][1].sum()), rel=0.05)


def test_autocast_stays_outside():
    """In bf16 the places of a resized or rotated image move by up to a pixel and a half of 512."""

    class Seen(nn.Module):
        def forward(self, images, labels):
            assert not torch.is_autocast_enabled("cpu")
            return images, labels

    image, label = torch.rand(1, 40, 48), torch.zeros(40, 48, dtype=torch.uint8)
    preprocessor = SlicePreprocessor(size=(32, 24), augmentation=dict(type=Seen))
    with torch.autocast("cpu", torch.bfloat16):
        inside = preprocessor(batch(image, label), training=True)["inputs"]
    assert inside.dtype == torch.float32
    assert torch.equal(inside, preprocessor(batch(image, label), training=True)["inputs"])


def test_it_is_built_by_name():
    built = MODELS.build(dict(type="SlicePreprocessor", augmentation=dict(type="RandomRotateFlip")))
    assert isinstance(built, SlicePreprocessor) and isinstance(built.augmentation, RandomRotateFlip)


@pytest.mark.parametrize("size", [32, (32,), (32, 24.0), "32"])
def test_a_size_that_is_none(size: Any) -> None:
    with pytest.raises(UserError, match="model.data_preprocessor.size is .*: expected"):
        SlicePreprocessor(size=size)
