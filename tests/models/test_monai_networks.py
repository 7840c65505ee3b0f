"""Any network of MONAI, by its name."""

import pytest
import torch

from medseg_kd.errors import UserError
from medseg_kd.registry import MODELS
from tests.distill.pairs import batch

NETWORKS = {
    "SegResNet": {},
    "BasicUNetPlusPlus": {"features": (4, 4, 8, 8, 8, 4)},
    "AttentionUnet": {"channels": (4, 8, 16), "strides": (2, 2)},
    "UNETR": {"img_size": 32, "hidden_size": 24, "mlp_dim": 24, "num_heads": 2, "feature_size": 4},
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_by_name_trains_and_predicts(name):
    network = dict(type=f"monai.{name}", **NETWORKS[name])
    losses = [dict(type="mmseg.CrossEntropyLoss", avg_non_ignore=True)]
    model = MODELS.build(dict(type="Segmentor", num_classes=4, network=network, size_divisor=16, losses=losses))
    images, samples = batch((32, 27))
    (loss,) = model.loss(images, samples).values()
    loss.backward()
    assert loss.isfinite()
    assert sum(p.grad.abs().sum() for p in model.parameters() if p.grad is not None) > 0
    with torch.no_grad():
        assert model.eval()(images).shape == (2, 4, 32, 27)
    assert model.predict_volume(images).shape == (2, 32, 27)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (dict(type="monai.SegResNett"), "'monai.SegResNett', which is no network; did you mean SegResNet"),
        (dict(type="UNett"), "did you mean UNet"),
        (dict(widht=3), "model.network.type is None"),
        (dict(type="monai.AttentionUnet", strides=(2, 2)), "missing a required argument: 'channels'"),
        (dict(type="monai.SegResNet", init_filter=8), "unexpected keyword argument 'init_filter'"),
    ],
)
def test_a_network_that_cannot_be_built(network, message):
    with pytest.raises(UserError, match=message):
        MODELS.build(dict(type="Segmentor", num_classes=4, network=network))
