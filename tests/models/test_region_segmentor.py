"""A segmentor whose outputs are regions that overlap."""

from typing import Any

import mmseg.models.losses as mmseg_losses
import monai.losses
import pytest
import torch
from torch import Tensor, nn

from medseg_kd.errors import UserError
from medseg_kd.models import RegionLoss, RegionSegmentor, Segmentor
from medseg_kd.registry import MODELS

REGIONS = [["whole", [1, 2, 3], 1], ("core", (2, 3), 2), ("enhancing", (3,), 3)]


class Net(nn.Module):
    """Two pointwise convolutions."""

    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(in_channels, 16, 1), nn.ReLU(), nn.Conv2d(16, num_classes, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def build(**options: Any) -> Any:
    torch.manual_seed(0)
    options = {"type": "RegionSegmentor", "network": {"type": Net}, "num_classes": 4, "regions": REGIONS, **options}
    return MODELS.build(options)


def test_one_output_for_each_region() -> None:
    model = build()
    assert (model.num_classes, model.num_outputs) == (4, 3)
    assert model(torch.rand(2, 1, 6, 6)).shape == (2, 3, 6, 6)
    assert [type(loss) for loss in model.losses] == [RegionLoss]
    assert model.losses[0].table[:, :4].tolist() == [
        [False, True, True, True],
        [False, False, True, True],
        [False] * 3 + [True],
    ]
    assert Segmentor({"type": Net}, 4).num_outputs == 4
    with pytest.raises(UserError, match=r"Net gives 4 channels, but the number of model.regions is 3"):
        build(network=Net(4, 1))(torch.rand(2, 1, 6, 6))


@pytest.mark.parametrize(
    ("logits", "expected"),
    [
        ([-1, -1, -1], 0),
        ([1, -1, -1], 1),
        ([1, 1, -1], 2),
        ([1, 9, 1], 3),  # the last, not the largest
        ([-1, 1, -1], 2),
        ([-1, -1, 1], 3),  # outside of what encloses it
        ([0, 0, 0], 0),  # a probability of 1/2 is not above it
    ],
)
def test_decoding(logits: list[float], expected: int) -> None:
    decoded = build().decode(torch.tensor(logits, dtype=torch.float32)[None, :, None, None].expand(2, 3, 4, 5))
    assert decoded.dtype == torch.uint8 and decoded.shape == (2, 4, 5)
    assert decoded.unique().tolist() == [expected]


def test_decoding_in_another_order() -> None:
    model = build(regions=REGIONS[::-1])
    assert model.decode(torch.ones(1, 3, 1, 1)).item() == 1


def test_a_case_is_decoded_on_its_own_grid() -> None:
    """Logits are resized, then cut at 0: labels that are resized would be blocks of 2 x 2."""
    model = build(data_preprocessor=dict(type="SlicePreprocessor", size=(4, 4))).eval()
    volume = torch.rand(3, 1, 8, 8)
    with torch.no_grad():
        small = model(model.data_preprocessor.resize(volume))
        logits = nn.functional.interpolate(small, size=(8, 8), mode="bilinear", align_corners=False)
    assert torch.equal(model.predict_volume(volume), model.decode(logits))


def test_overlapping_regions_are_learned() -> None:
    rng = torch.Generator().manual_seed(0)
    labels = torch.randint(4, (4, 8, 8), generator=rng).to(torch.uint8)
    images = labels[:, None] / 3 + 0.02 * torch.randn(4, 1, 8, 8, generator=rng)
    labels[:, 0] = 255
    model = build()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
    for _ in range(150):
        optimizer.zero_grad()
        (loss,) = model.loss(images, labels).values()
        loss.backward()
        optimizer.step()
    predicted = torch.cat([sample.pred_sem_seg.data for sample in model.eval().predict(images)])
    assert (predicted == labels)[:, 1:].float().mean() > 0.97


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(regions=None), r"model.regions is None: expected \(name, classes, class that it becomes\)"),
        (dict(regions=[("whole", 1)]), r"model.regions is .*: expected"),
        (dict(losses=[dict(type="SoftDiceLoss")]), r"model.losses has SoftDiceLoss, a loss of classes .*'RegionLoss'"),
        (dict(losses=[dict(type="CrossEntropyLoss")]), r"model.losses has CrossEntropyLoss, a loss of classes"),
        (
            dict(losses=[dict(type=nn.CrossEntropyLoss)]),
            r"model.losses has CrossEntropyLoss, .* \(it forms a softmax\)",
        ),
        (dict(losses=[dict(type="monai.DiceLoss", softmax=True)]), r"DiceLoss, a loss of classes .*'RegionLoss'"),
        (dict(losses=[dict(type="monai.DiceLoss")]), "takes logits for probabilities. Set sigmoid=True"),
        (dict(losses=[dict(type="monai.DiceLoss", sigmoid=True, ignore_index=255)]), "pixels that are in no region"),
        (dict(num_classes=None), "model.num_classes is None"),
    ],
)
def test_what_makes_no_sense(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build(**options)


@pytest.mark.parametrize(
    ("cfg", "loss"),
    [
        (dict(type=nn.BCEWithLogitsLoss, loss_weight=1), nn.BCEWithLogitsLoss()),
        (dict(type="monai.losses.DiceLoss", sigmoid=True), monai.losses.DiceLoss(sigmoid=True)),
        (dict(type="mmseg.DiceLoss"), mmseg_losses.DiceLoss()),
    ],
    ids=["PyTorch", "MONAI", "MMSegmentation"],
)
def test_losses_of_masks(cfg: dict[str, Any], loss: nn.Module) -> None:
    rng = torch.Generator().manual_seed(0)
    labels = torch.randint(4, (2, 8, 8), generator=rng).to(torch.uint8)
    images = torch.rand(2, 1, 8, 8, generator=rng)
    model = build(losses=[cfg])
    masks = torch.stack((labels > 0, labels > 1, labels == 3), dim=1).float()
    (value,) = model.loss(images, labels).values()
    torch.testing.assert_close(value, loss(model(images), masks))
    labels[0, 0, 0] = 255
    with pytest.raises(UserError, match="counts all pixels"):
        model.loss(images, labels)


def test_options_of_the_loss_and_none() -> None:
    loss = build(losses=[dict(type=RegionLoss, dice_weight=2.0)]).losses[0]
    assert loss.dice_weight == 2 and len(loss.table) == 3
    assert len(build(losses=None).losses) == 0
    assert isinstance(build(), RegionSegmentor)
