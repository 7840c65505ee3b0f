"""Views of a slice, checkpoints and decodings of a case."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from medseg_kd.datasets.intensities import Stored
from medseg_kd.datasets.spec import Channel, DataSpec
from medseg_kd.errors import UserError
from medseg_kd.inference import Predictor
from medseg_kd.inference.case import predict_with, views_of
from medseg_kd.models import RandomRotateFlip, RegionSegmentor, Segmentor
from tests.inference.saved import CLASSES, write_checkpoint

TURNING = {"augmentation": {"type": RandomRotateFlip}}


class Position(nn.Module):
    """Logits that depend on the place, of 2 or 3 classes, and so on how a slice is turned."""

    def __init__(self, classes: int = 3, seed: int = 0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(classes, 8, 8, generator=torch.Generator().manual_seed(seed)))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight[:, : x.shape[-2], : x.shape[-1]]


def segmentor(seed: int = 0, **options: object) -> Segmentor:
    return Segmentor(Position(seed=seed), 3, data_preprocessor=TURNING, **options).eval()


def slices(height: int = 8) -> Tensor:
    return torch.rand(5, 1, height, 8, generator=torch.Generator().manual_seed(1))


def mean_of_views(model: Segmentor, inputs: Tensor, square: bool) -> Tensor:
    """By hand: as it lies, mirrored either way, and, of a square, mirrored about both diagonals."""
    turns = [lambda x: x, lambda x: x.flip(-1), lambda x: x.flip(-2)]
    turns += [lambda x: x.transpose(-1, -2), lambda x: x.flip(-1, -2).transpose(-1, -2)] if square else []
    return torch.stack([turn(model(turn(inputs)).softmax(1)) for turn in turns]).mean(0)


@pytest.mark.parametrize("height", [8, 6])
def test_views_are_those_that_training_shows(height: int) -> None:
    model, kept = segmentor(), []
    predict_with(model, tta=True)
    labels = model.predictor(model, slices(height), keep=kept.append)
    expected = mean_of_views(model, slices(height), height == 8)
    torch.testing.assert_close(torch.cat(kept), expected)
    assert torch.equal(labels, expected.argmax(1).to(torch.uint8))
    assert not torch.equal(labels, model(slices(height)).argmax(1).to(torch.uint8))


def test_views_are_what_the_augmentation_gives() -> None:
    """Each slice that comes out of it is one of the views, and each view does come out."""
    model = segmentor()
    model.data_preprocessor.augmentation = RandomRotateFlip(flip_prob=1)
    image = torch.rand(1, 1, 8, 8)
    views = [image[0].rot90(turns, (-2, -1)).flip(-1) for turns, _ in views_of(model, True)]
    found = model.data_preprocessor.augmentation(image.expand(64, -1, -1, -1), torch.zeros(64, 8, 8))[0]
    same = torch.tensor([[torch.equal(each, view) for view in views] for each in found])
    assert same.any(1).all() and same.any(0).all()


def test_no_views_where_training_showed_none() -> None:
    for augmentation in (None, {"type": RandomRotateFlip, "flip_prob": 0.0}):
        model = Segmentor(Position(), 3, data_preprocessor={"augmentation": augmentation})
        with pytest.raises(UserError, match="the training showed no flips or right angles"):
            predict_with(model, tta=True)


def test_an_ensemble_is_the_mean_of_probabilities() -> None:
    models, kept = [segmentor(seed) for seed in range(3)], []
    predict_with(models[0], others=models[1:])
    labels = models[0].predictor(models[0], slices(), keep=kept.append)
    expected = torch.stack([model(slices()).softmax(1) for model in models]).mean(0)
    torch.testing.assert_close(torch.cat(kept), expected)
    assert torch.equal(labels, expected.argmax(1).to(torch.uint8))


def test_probabilities_of_regions() -> None:
    regions = (("whole", (1, 2), 1), ("core", (2,), 2))
    models = [RegionSegmentor(Position(2, seed), 3, regions, losses=None).eval() for seed in range(2)]
    predict_with(models[0], others=models[1:])
    whole, core = torch.stack([model(slices()).sigmoid() for model in models]).mean(0).unbind(1)
    expected = torch.where(core > 0.5, 2, torch.where(whole > 0.5, 1, 0))
    assert torch.equal(models[0].predictor(models[0], slices()).long(), expected)


def test_rankseg_gives_the_labels_of_the_largest_expected_dice() -> None:
    """One uncertain organ: 40 % of a slice at 0.4 is more Dice than nothing, where argmax finds nothing."""
    model = segmentor()
    model.network.weight.data = torch.zeros(3, 8, 8)
    model.network.weight.data[0, :3], model.network.weight.data[1, 3:] = 3.0, -0.3
    model.network.weight.data[2], model.network.weight.data[1, 7] = -9.0, 3.0
    inputs = torch.ones(1, 1, 8, 8)
    plain = model.predict_volume(inputs)[0]
    assert (plain == torch.tensor([0] * 7 + [1])[:, None]).all()
    predict_with(model, decoding="rankseg")
    found = model.predict_volume(inputs)[0]
    assert (found == torch.tensor([0] * 3 + [1] * 5)[:, None]).all()
    regions = RegionSegmentor(Position(1), 2, (("organ", (1,), 1),), losses=None).eval()
    regions.network.weight.data[0] = torch.tensor([-4.0] * 3 + [-0.3] * 4 + [3.0])[:, None]
    predict_with(regions, decoding="rankseg")
    assert torch.equal(regions.predict_volume(inputs)[0], found)


def test_checkpoints_of_an_ensemble(tmp_path: Path) -> None:
    """A class of probability 1 in one of two and of 0 in the other is found by neither, or by the first of equals."""
    spec = DataSpec((Channel("CT", Stored()),), CLASSES, orientation="LPS")
    first = write_checkpoint(tmp_path / "a.pth", spec)
    found = Predictor.from_checkpoint(first, "cpu", ensemble=[first, first])
    values = np.random.default_rng(0).random((2, 4, 6), np.float32)
    np.testing.assert_array_equal(found(values).labels, Predictor.from_checkpoint(first, "cpu")(values).labels)
    renamed = DataSpec(spec.channels, ("background", "liver", "lung"), orientation="LPS")
    with pytest.raises(UserError, match=r"(?s)a\.pth and .*b\.pth are no ensemble: .*\n  classes: .*spleen and .*lung"):
        Predictor.from_checkpoint(first, "cpu", ensemble=[write_checkpoint(tmp_path / "b.pth", renamed)])
    resized = write_checkpoint(tmp_path / "c.pth", spec, size=(16, 16))
    with pytest.raises(UserError, match=r"no ensemble.*\n  dataset.size: None and \(16, 16\)"):
        Predictor.from_checkpoint(first, "cpu", ensemble=[resized])
    with pytest.raises(UserError, match="decoding is 'best': expected argmax or rankseg"):
        Predictor.from_checkpoint(first, "cpu", decoding="best")
