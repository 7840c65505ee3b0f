"""nnU-Net's augmentation on the device, beside a plain one that takes slice by slice."""

from collections.abc import Callable

import numpy as np
import pytest
import scipy.ndimage
import torch
import torch.nn.functional as F

from medseg_kd.errors import UserError
from medseg_kd.models import NnUNetAugmentation
from medseg_kd.registry import MODELS
from tests.models.test_augmentation import blobs

NOTHING = {
    f"{what}_prob": 0.0
    for what in [
        "rotate",
        "scale",
        "mirror",
        "noise",
        "blur",
        "brightness",
        "contrast",
        "low_resolution",
        "inverted_gamma",
        "gamma",
    ]
}


def only(**options: object) -> NnUNetAugmentation:
    return NnUNetAugmentation(**{**NOTHING, **options})


def channels(count: int = 32) -> torch.Tensor:
    """Smooth images in [0, 1] of two channels with fine structure, (N, 2, 32, 40)."""
    smooth = blobs(2 * count, 32, 40)[0].view(count, 2, 32, 40)
    return (smooth + 0.1 * torch.rand(smooth.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)


def blurred(x: np.ndarray) -> np.ndarray:
    return scipy.ndimage.gaussian_filter(x, 0.8, mode="mirror", truncate=5)


def coarse(x: np.ndarray) -> np.ndarray:
    small = F.interpolate(torch.from_numpy(x)[None, None], (19, 24), mode="nearest-exact")  # 0.6 of 32 and 40
    return F.interpolate(small, x.shape, mode="bilinear")[0, 0].numpy()


def stretched(x: np.ndarray) -> np.ndarray:
    return ((x - x.mean()) * 1.2 + x.mean()).clip(x.min(), x.max())


def to_the_power(x: np.ndarray, sign: int = 1, exponent: float = 1.4) -> np.ndarray:
    x = sign * x
    y = ((x - x.min()) / np.ptp(x)) ** exponent * np.ptp(x) + x.min()
    return sign * ((y - y.mean()) * x.std() / y.std() + x.mean())


@pytest.mark.parametrize(
    ("options", "reference", "share"),
    [
        (dict(blur_prob=1.0, blur=(0.8, 0.8)), blurred, 0.5),
        (dict(low_resolution_prob=1.0, low_resolution=(0.6, 0.6)), coarse, 0.5),
        (dict(brightness_prob=1.0, brightness=(1.2, 1.2)), lambda x: 1.2 * x, 1.0),
        (dict(contrast_prob=1.0, contrast=(1.2, 1.2)), stretched, 1.0),
        (dict(gamma_prob=1.0, gamma=(1.4, 1.4)), to_the_power, 1.0),
        (dict(inverted_gamma_prob=1.0, gamma=(1.4, 1.4)), lambda x: to_the_power(x, -1), 1.0),
        (dict(gamma_prob=0.3, gamma=(1.4, 1.4)), to_the_power, 0.3),
        (dict(contrast_prob=0.15, contrast=(1.2, 1.2)), stretched, 0.15),
        (dict(low_resolution_prob=0.25, low_resolution=(0.6, 0.6)), coarse, 0.125),
    ],
    ids=["blur", "coarse", "brightness", "contrast", "gamma", "inverted", "some_gamma", "some_contrast", "some_coarse"],
)
def test_a_channel_is_changed_as_by_the_plain_code_or_not_at_all(
    options: dict, reference: Callable[[np.ndarray], np.ndarray], share: float
) -> None:
    torch.manual_seed(0)
    images = channels(100)
    labels = (images[:, 0] > 0.5).to(torch.uint8)
    changed, same = only(**options)(images, labels)
    assert torch.equal(same, labels)
    pairs = list(zip(images.flatten(0, 1), changed.flatten(0, 1), strict=True))
    moved = [(before, after) for before, after in pairs if not torch.equal(before, after)]
    assert len(moved) / len(pairs) == pytest.approx(share, abs=4 * (share * (1 - share) / 100) ** 0.5)
    for before, after in moved:
        np.testing.assert_allclose(after.numpy(), reference(before.numpy()), atol=2e-3 if "blur" in options else 2e-5)


def test_noise_is_a_share_of_the_deviation() -> None:
    torch.manual_seed(0)
    images = channels()
    noisy, _ = only(noise_prob=1.0, noise=(0.1, 0.1))(images, images[:, 0] > 0.5)
    shares = ((noisy - images).std((2, 3)) / images.std((2, 3))).flatten()
    assert shares.mean().item() == pytest.approx(0.1, abs=0.002)
    assert abs(torch.corrcoef((noisy - images)[0].flatten(1))[0, 1]) < 0.15  # each channel its own


@pytest.mark.parametrize("size", [(40, 40), (30, 64)])
def test_scaling_is_that_of_scipy(size: tuple[int, int]) -> None:
    images, labels = blobs(1, *size)
    scaled, scaled_labels = only(scale_prob=1.0, scale=(1.3, 1.3))(images, labels)
    centre = (np.array(size) - 1) / 2
    move = dict(matrix=np.eye(2) * 1.3, offset=centre - 1.3 * centre)
    theirs = scipy.ndimage.affine_transform(images[0, 0].numpy(), order=1, **move)
    np.testing.assert_allclose(scaled[0, 0].numpy(), theirs, atol=2e-3)
    nearest = scipy.ndimage.affine_transform(labels[0].numpy(), order=0, **move)
    assert (scaled_labels[0].numpy() == nearest).mean() > 0.999


def test_shift_and_bending_move_by_their_share_at_most() -> None:
    """A ramp tells where each pixel comes from."""
    ramp = torch.linspace(0, 49, 50).expand(64, 1, 50, 50)
    for options, within in ((dict(shift_prob=1.0, shift=0.1), 5.0), (dict(elastic_prob=1.0, elastic=0.02), 1.5)):
        torch.manual_seed(0)
        moved, _ = only(**options)(ramp, torch.zeros(64, 50, 50, dtype=torch.uint8))
        distance = (moved - ramp)[..., 10:-10, 10:-10]
        assert within / 2 < distance.abs().max() <= within
        assert (distance.std((1, 2, 3)) < 1e-4).all() == ("shift" in options)


def test_mirroring_is_exact_and_the_same_for_all_channels() -> None:
    torch.manual_seed(0)
    images = torch.rand(200, 3, 9, 12)
    moved, labels = only(mirror_prob=0.5)(images, (images[:, 0] * 255).to(torch.uint8))
    kinds = [
        [image.flip(axes).equal(after) for axes in ((), 1, 2, (1, 2))]
        for image, after in zip(images, moved, strict=True)
    ]
    assert all(sum(kind) == 1 for kind in kinds)
    assert np.sum(kinds, 0).tolist() == pytest.approx([50] * 4, abs=25)
    assert torch.equal(labels, (moved[:, 0] * 255).to(torch.uint8))


def test_labels_are_never_blended_and_follow_the_image() -> None:
    torch.manual_seed(0)
    images, labels = blobs(24, 48, 48)
    labels[:, :, :4] = 255  # padding
    moved, moved_labels = only(rotate_prob=1.0, scale_prob=1.0, elastic_prob=1.0, shift_prob=1.0)(images, labels)
    assert set(moved_labels.unique().tolist()) == {0, 1, 255}
    counted = moved_labels != 255
    assert (((moved[:, 0] > 0.5) == moved_labels.bool()) | ~counted).float().mean((1, 2)).min() > 0.95


def test_nothing_drawn_is_nothing_changed_and_intensities_move_no_label() -> None:
    images, labels = channels(), torch.randint(9, (32, 32, 40), dtype=torch.uint8)
    assert all(map(torch.equal, only()(images, labels), (images, labels)))
    torch.manual_seed(3)
    _, with_all = NnUNetAugmentation()(images, labels)
    torch.manual_seed(3)
    _, moved = NnUNetAugmentation(**dict.fromkeys(list(NOTHING)[3:], 0.0))(images, labels)
    assert torch.equal(with_all, moved)


def test_same_seed_same_slices_whatever_autocast_says() -> None:
    images, labels = channels(6), torch.randint(9, (6, 32, 40), dtype=torch.uint8)
    results = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        with torch.autocast("cpu", torch.bfloat16, enabled=len(results) == 1):
            results.append(NnUNetAugmentation()(images, labels))
    assert all(map(torch.equal, results[0], results[1]))
    assert not torch.equal(results[0][0], results[2][0])


def test_the_recipe_has_the_moments_of_a_plain_loop() -> None:
    """Statistics of augmented slices and labels: means of many within four standard errors."""
    images, labels = blobs(1, 40, 40)
    count, rng = 800, np.random.default_rng(1)
    torch.manual_seed(1)
    augmented, moved = NnUNetAugmentation()(images.expand(count, -1, -1, -1), labels.expand(count, -1, -1))
    ours = np.array([_statistics(a[0].numpy(), b.numpy()) for a, b in zip(augmented, moved, strict=True)])
    plain = np.array([_statistics(*_plain(images[0, 0].numpy(), labels[0].numpy(), rng)) for _ in range(count)])
    error = np.sqrt((ours.var(0) + plain.var(0)) / count)
    assert (np.abs(ours.mean(0) - plain.mean(0)) < 4 * error).all()
    assert ours.std(0) == pytest.approx(plain.std(0), rel=0.2)


def _statistics(image: np.ndarray, label: np.ndarray) -> list[float]:
    """Level, contrast, sharpness, extremes; area and where it lies."""
    rows, columns = np.nonzero(label)
    edges = np.abs(np.diff(image)).mean()
    return [image.mean(), image.std(), edges, image.max(), image.min(), label.mean(), rows.mean(), columns.std()]


def _plain(x: np.ndarray, label: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """nnU-Net's recipe for one slice of one channel."""

    def one(low: float, high: float) -> float:
        return rng.uniform(low, 1) if rng.random() < 0.5 else rng.uniform(1, high)

    angle = rng.uniform(-np.pi, np.pi) if rng.random() < 0.2 else 0.0
    scale = rng.uniform(0.7, 1.4) if rng.random() < 0.2 else 1.0
    matrix = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    centre = (np.array(x.shape) - 1) / 2
    move = dict(matrix=matrix, offset=centre - matrix @ centre)
    x, label = (scipy.ndimage.affine_transform(each, order=order, **move) for each, order in ((x, 1), (label, 0)))
    if rng.random() < 0.1:
        x = x + rng.normal(0, rng.uniform(0, 0.1) * x.std(), x.shape)
    if rng.random() < 0.2 and rng.random() < 0.5:
        x = scipy.ndimage.gaussian_filter(x, rng.uniform(0.5, 1, 2), mode="mirror")
    if rng.random() < 0.15:
        x = x * one(0.75, 1.25)
    if rng.random() < 0.15:
        x = ((x - x.mean()) * one(0.75, 1.25) + x.mean()).clip(x.min(), x.max())
    if rng.random() < 0.25 and rng.random() < 0.5:
        size = [round(side * scale) for side in x.shape for scale in [rng.uniform(0.5, 1)]]
        small = F.interpolate(torch.from_numpy(x)[None, None], size, mode="nearest-exact")
        x = F.interpolate(small, x.shape, mode="bilinear")[0, 0].numpy()
    for probability, sign in ((0.1, -1), (0.3, 1)):
        if rng.random() < probability:
            x = to_the_power(x, sign, one(0.7, 1.5))
    for axis in (0, 1):
        if rng.random() < 0.5:
            x, label = np.flip(x, axis), np.flip(label, axis)
    return x, label


def test_long_slices_turn_little() -> None:
    torch.manual_seed(0)
    ramp = torch.linspace(0, 1, 32)[:, None].expand(300, 1, 32, 64)
    turned, _ = only(rotate_prob=1.0)(ramp, torch.zeros(300, 32, 64, dtype=torch.uint8))
    rows = (turned[:, 0, 18, 32] - turned[:, 0, 14, 32]) / (4 / 31)  # the cosine of the angle
    assert rows.min() == pytest.approx(np.cos(np.radians(15)), abs=0.005)


def test_it_is_built_by_name() -> None:
    assert isinstance(MODELS.build(dict(type="NnUNetAugmentation", elastic_prob=0.2)), NnUNetAugmentation)


@pytest.mark.parametrize(
    "wrong", [dict(blur_prob=2), dict(gamma=(1.5, 0.7)), dict(noise=(-1, 1)), dict(scale=(1,))], ids=str
)
def test_what_is_no_probability_or_range_is_refused(wrong: dict) -> None:
    with pytest.raises(UserError, match=f"NnUNetAugmentation: {next(iter(wrong))} is .*: expected"):
        NnUNetAugmentation(**wrong)


def test_processes_draw_what_one_draws_that_has_their_whole_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of everything, also where nothing of a kind falls to a process; the noise itself is of its device."""
    images = channels(8)
    labels = (images[:, 0] > 0.5).to(torch.uint8)
    augmentation = NnUNetAugmentation(noise_prob=0, elastic_prob=0.3, shift_prob=0.3, contrast_prob=0.5)
    augmentation.shared_seed = 3
    whole, found = augmentation(images, labels), (torch.empty_like(images), torch.empty_like(labels))
    for rank in range(4):
        monkeypatch.setattr("medseg_kd.models.augmentation.get_dist_info", lambda rank=rank: (rank, 4))
        parts = augmentation(images[rank::4], labels[rank::4])
        for into, part in zip(found, parts, strict=True):
            into[rank::4] = part
    torch.testing.assert_close(found, whole, rtol=0, atol=1e-6)
    assert sum(torch.equal(before, after) for before, after in zip(images, whole[0], strict=True)) < 3
