"""Random rotation and flip on the device."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
import scipy.ndimage
import torch

from medseg_kd.models import RandomRotateFlip
from medseg_kd.registry import MODELS
from tests.device_faults import DeviceFaults


def blobs(n: int, height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Smooth images in [0, 1] with a dark rim, and labels that are their pixels above 1/2."""
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((n, height, width))
    smooth = scipy.ndimage.gaussian_filter(noise, (0, 4, 4))
    smooth = 0.5 + smooth / np.abs(smooth).max() / 2
    smooth[:, :6] = smooth[:, -6:] = 0
    smooth[..., :6] = smooth[..., -6:] = 0
    image = torch.from_numpy(smooth).float()
    return image[:, None], (image > 0.5).long()


def right_angles(x: torch.Tensor, turns: tuple[int, ...]) -> list[torch.Tensor]:
    """All that quarter turns and a flip can make of (H, W)."""
    return [x.rot90(turn).flip(axis) for turn in turns for axis in (0, 1)]


@pytest.mark.parametrize(("size", "turns"), [((8, 8), (0, 1, 2, 3)), ((6, 9), (0, 2))])
def test_flips_are_exact_right_angles_and_equally_likely(size, turns):
    torch.manual_seed(0)
    label = torch.arange(math.prod(size)).reshape(size)
    images, labels = RandomRotateFlip(flip_prob=1.0)(label.float().expand(400, 1, *size), label.expand(400, *size))
    assert torch.equal(images[:, 0], labels.float())
    expected = {tuple(x.flatten().tolist()) for x in right_angles(label, turns)}
    counts = Counter(tuple(x.flatten().tolist()) for x in labels)
    assert counts.keys() == expected
    assert list(counts.values()) == pytest.approx([400 / len(expected)] * len(expected), abs=25)


@pytest.mark.parametrize("size", [(64, 64), (48, 72)])
def test_image_and_label_stay_aligned(size):
    torch.manual_seed(1)
    images, labels = blobs(16, *size)
    turned, turned_labels = RandomRotateFlip()(images, labels)
    assert sum(not torch.equal(a, b) for a, b in zip(labels, turned_labels, strict=True)) > 8
    # A label rotated as an image and cut at one half is the nearest-neighbour label but for the rim's pixels.
    agree = ((turned[:, 0] > 0.5) == turned_labels.bool()).float().mean((1, 2))
    assert agree.min() > 0.97
    assert turned_labels.dtype == torch.int64 and turned.shape == images.shape


@pytest.mark.parametrize("size", [(41, 41), (40, 60)])
def test_the_rotation_is_that_of_scipy(size, monkeypatch):
    """About the centre, by the angle drawn, isotropic also where the slice is not square."""
    images, labels = blobs(1, *size)
    for draw, degrees in ((0.0, -20.0), (0.75, 10.0)):
        monkeypatch.setattr(
            torch, "rand", lambda n, k, generator, draw=draw: torch.tensor([[0.9, 0, 0, 0, draw]]).expand(n, k)
        )
        turned, turned_label = RandomRotateFlip(rotate_prob=1.0, flip_prob=0.5)(images, labels)
        theirs = scipy.ndimage.rotate(images[0, 0].numpy(), degrees, reshape=False, order=1)
        np.testing.assert_allclose(turned[0, 0].numpy(), theirs, atol=2e-3)
        nearest = scipy.ndimage.rotate(labels[0].numpy(), degrees, reshape=False, order=0)
        assert (turned_label[0].numpy() == nearest).mean() > 0.999


def test_what_comes_in_from_outside_is_air_and_background():
    torch.manual_seed(2)
    images, labels = RandomRotateFlip(rotate_prob=1.0, flip_prob=0.0)(
        torch.ones(8, 1, 32, 32), torch.full((8, 32, 32), 3)
    )
    corners = images[:, 0, [0, 0, -1, -1], [0, -1, 0, -1]]
    assert corners.min() == 0
    assert set(labels.unique().tolist()) == {0, 3}
    assert labels[images[:, 0] == 0].max() == 0


def test_values_of_the_label_survive():
    """Padding (255) and class indices are not blended."""
    torch.manual_seed(3)
    values = torch.tensor([0, 4, 8, 255])
    labels = values[torch.randint(4, (8, 20, 24))]
    _, turned = RandomRotateFlip(rotate_prob=1.0, flip_prob=0.0)(torch.rand(8, 1, 20, 24), labels)
    assert torch.isin(turned, values).all()


def test_same_seed_same_result_and_each_slice_its_own():
    images, labels = blobs(1, 32, 32)
    images, labels = images.expand(6, -1, -1, -1), labels.expand(6, -1, -1)
    results = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        results.append(RandomRotateFlip()(images, labels))
    for first, second in zip(results[0], results[1], strict=True):
        assert torch.equal(first, second)
    assert not torch.equal(results[0][0], results[2][0])
    assert any(not torch.equal(a, b) for a, b in itertools.pairwise(results[0][0]))


def test_probability_zero_is_identity():
    images, labels = blobs(4, 16, 20)
    turned, turned_labels = RandomRotateFlip(rotate_prob=0.0, flip_prob=0.0)(images, labels)
    assert torch.equal(turned, images) and torch.equal(turned_labels, labels)


def test_degree_zero_is_identity():
    images, labels = blobs(2, 16, 20)
    turned, turned_labels = RandomRotateFlip(rotate_prob=1.0, flip_prob=0.0, degree=0.0)(images, labels)
    torch.testing.assert_close(turned, images)
    assert torch.equal(turned_labels, labels)


def test_shares_of_the_three_outcomes():
    """Half are flipped; of the rest, half are rotated, as in TransUNet's code. Few angles leave 8x8 pixels in place."""
    torch.manual_seed(4)
    label = torch.arange(64).reshape(8, 8)
    _, labels = RandomRotateFlip(degree=180.0)(torch.zeros(2000, 1, 8, 8), label.expand(2000, 8, 8))
    same = sum(torch.equal(label, one) for one in labels)
    permuted = sum(torch.equal(label.flatten(), one.flatten().sort().values) for one in labels) - same
    assert same == pytest.approx(500, abs=80)
    assert permuted == pytest.approx(1000, abs=80)


def test_right_angles_are_exact_on_large_slices_of_any_type():
    rng = torch.Generator().manual_seed(0)
    images, labels = torch.randn(6, 3, 512, 512, generator=rng), torch.randint(256, (6, 512, 512), generator=rng)
    labels = labels.to(torch.uint8)
    torch.manual_seed(0)
    turned, turned_labels = RandomRotateFlip(flip_prob=1.0)(images, labels)
    assert turned_labels.dtype == torch.uint8
    for image, label, image_out, label_out in zip(images, labels, turned, turned_labels, strict=True):
        same = [turn.equal(label_out) for turn in right_angles(label, (0, 1, 2, 3))]
        assert any(same)
        expected = right_angles(image.movedim(0, -1), (0, 1, 2, 3))[same.index(True)]
        assert expected.movedim(-1, 0).equal(image_out)


def test_autocast_moves_nothing():
    """In bf16 the pixel grid of 512 has steps of two pixels near its rim."""
    rng = torch.Generator().manual_seed(1)
    images, labels = torch.rand(2, 1, 512, 512, generator=rng), torch.randint(9, (2, 512, 512), generator=rng)
    augment = RandomRotateFlip(rotate_prob=1.0, flip_prob=0.0)
    torch.manual_seed(0)
    expected = augment(images, labels)
    torch.manual_seed(0)
    with torch.autocast("cpu", torch.bfloat16):
        results = augment(images, labels)
    assert all(map(torch.equal, results, expected))


@pytest.mark.parametrize("flip_prob", [0.0, 1.0])
def test_a_gpu_does_not_wait(flip_prob):
    with DeviceFaults() as faults:
        RandomRotateFlip(rotate_prob=1.0, flip_prob=flip_prob)(
            torch.zeros(3, 2, 16, 16), torch.zeros(3, 16, 16, dtype=torch.uint8)
        )
    assert faults.found == []


def test_it_is_built_by_name():
    assert isinstance(MODELS.build(dict(type="RandomRotateFlip", degree=5.0)), RandomRotateFlip)


@pytest.mark.parametrize("kind", ["RandomRotateFlip", "NnUNetAugmentation"])
def test_soft_labels_move_as_the_labels_and_the_slices_do(kind: str):
    """One-hot soft labels: the same classes at right angles, elsewhere but for pixels between classes."""
    images, _ = blobs(16, 64, 64)
    labels = (images[:, 0] * 4).long().clamp(max=3).to(torch.uint8)
    soft = torch.stack([labels == value for value in range(4)], 1).half()
    preprocessor = MODELS.build(dict(type="SlicePreprocessor", augmentation=dict(type=kind)))
    preprocessor.eval()
    both = []
    for more in ({"soft": soft}, {}):
        torch.manual_seed(3)
        data = {"inputs": images, "labels": labels, "meta": None, **more}
        both.append(preprocessor(data, training=True))
    moved, plain = both
    assert torch.equal(moved["inputs"], plain["inputs"]) and torch.equal(moved["labels"], plain["labels"])
    assert not torch.equal(moved["labels"], labels) and "soft" not in plain
    assert moved["soft"].dtype == torch.float32
    assert torch.allclose(moved["soft"].sum(1), torch.ones(()), atol=1e-5) and moved["soft"].min() >= -1e-6
    told, sure = moved["soft"].argmax(1), moved["soft"].amax(1) > 0.75  # one of the pixels around outweighs the others
    assert torch.equal(told[sure], moved["labels"].long()[sure]) and sure.float().mean() > 0.8
    exact = (moved["soft"] * (1 - moved["soft"])).abs().amax((1, 2, 3)) < 1e-6
    assert kind != "RandomRotateFlip" or 4 < exact.sum() < 16
    assert torch.equal(told[exact], moved["labels"].long()[exact])
