"""Swin-UNETR's weights."""

import pytest
import torch
from monai.networks.nets import SwinUNETR as MonaiSwinUNETR

from medseg_kd.errors import UserError
from medseg_kd.models import SwinUNETR
from medseg_kd.models.weights.swin_unetr import convert


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    return MonaiSwinUNETR(1, 9, feature_size=12, spatial_dims=2).state_dict()


@pytest.mark.parametrize("mlp", ["linear", "fc"])
def test_every_weight_finds_its_place(state, mlp):
    net = SwinUNETR(9, feature_size=12)
    net.load_state_dict(convert({key.replace("mlp.linear", f"mlp.{mlp}"): value for key, value in state.items()}))
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())


@pytest.mark.parametrize("prefix", ["", "encoder."])
def test_an_encoder_alone_is_refused(state, prefix):
    encoder = {prefix + key.removeprefix("swinViT."): v for key, v in state.items() if key.startswith("swinViT.")}
    with pytest.raises(UserError, match=rf"encoder alone \({prefix}patch_embed.proj.weight, .*model_swinvit.pt"):
        convert(encoder)


def test_another_network_is_refused_by_strict_loading(state):
    net = SwinUNETR(9, feature_size=12)
    for other in (
        MonaiSwinUNETR(1, 9, feature_size=12, spatial_dims=2, use_v2=True).state_dict(),
        {**state, "swinViT.patch_embed.proj.weight": torch.zeros(12, 1, 2, 2, 2)},
    ):
        with pytest.raises(RuntimeError, match=r"layers1c|swinViT.patch_embed.proj.weight"):
            net.load_state_dict(convert(other))
