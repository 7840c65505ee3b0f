"""The network of nnU-Net's plans: built from data that name classes, of which nothing else is imported."""

import copy
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from medseg_kd.errors import UserError
from medseg_kd.models import NnUNet, Segmentor
from tests.models.network_contract import VariantContract
from tests.nnunet_results import ARCHITECTURE, OLD_KEYS, plans_json, write_json


def changed(**arguments: Any) -> dict[str, Any]:
    """The architecture with other arguments."""
    return {**ARCHITECTURE, "arch_kwargs": {**ARCHITECTURE["arch_kwargs"], **arguments}}


DEEPER = changed(
    n_stages=4,
    features_per_stage=[2, 4, 6, 8],
    kernel_sizes=[[3, 3]] * 4,
    strides=[[1, 1], [2, 2], [2, 2], [2, 2]],
    n_conv_per_stage=[1] * 4,
    n_conv_per_stage_decoder=[1] * 3,
)


class TestNnUNet(VariantContract):
    network = dict(type=NnUNet, num_classes=3, architecture=DEEPER)
    outputs_in_training = 3

    def test_stages(self, net):
        assert [(each["channels"], each["reduction"]) for each in net.feature_info] == [(2, 1), (4, 2), (6, 4), (8, 8)]


def test_plans_and_what_a_run_writes_of_them_build_the_same(tmp_path: Path) -> None:
    plans = str(write_json(tmp_path / "plans.json", plans_json()))
    config: dict[str, Any] = {"type": "NnUNet", "plans": plans, "num_classes": 3}
    for _ in range(2):
        NnUNet.settle(config)
        assert config == {"type": "NnUNet", "num_classes": 3, "architecture": ARCHITECTURE}
    shapes = [
        {name: value.shape for name, value in NnUNet(3, **arguments).state_dict().items()}
        for arguments in ({"plans": plans}, {"architecture": config["architecture"]})
    ]
    assert shapes[0] == shapes[1]


def test_deep_supervision_has_nnunets_weights() -> None:
    """1, 1/2, 1/4 ..., the last of them 0, divided by their sum."""
    deeper = changed(
        n_stages=5,
        features_per_stage=[2] * 5,
        kernel_sizes=[[3, 3]] * 5,
        strides=[[1, 1], [2, 2], [2, 2], [2, 1], [1, 2]],
        n_conv_per_stage=[1] * 5,
        n_conv_per_stage_decoder=[1] * 4,
    )
    network = NnUNet(3, architecture=deeper)
    assert network.output_weights == (4 / 7, 2 / 7, 1 / 7, 0)
    assert (network.size_divisor, network.feature_info[3]["reduction"]) == (8, 8)
    assert NnUNet(3, architecture=deeper, deep_supervision=False).output_weights == (1.0,)
    model = Segmentor({"type": "NnUNet", "architecture": deeper}, 3, [{"type": "SoftDiceLoss"}])
    losses = model.train()(torch.rand(2, 1, 20, 28), torch.ones(2, 20, 28, dtype=torch.uint8), mode="loss")
    assert list(losses) == ["loss_dice", "aux1.loss_dice", "aux2.loss_dice", "aux3.loss_dice"]
    assert losses["aux3.loss_dice"] == 0 < losses["aux2.loss_dice"]
    assert model.eval()(torch.rand(1, 1, 20, 28)).shape == (1, 3, 20, 28)


def test_networks_of_other_plans(tmp_path: Path) -> None:
    plans = plans_json(**OLD_KEYS)
    del plans["configurations"]["2d"]["architecture"]
    old = NnUNet(3, plans=str(write_json(tmp_path / "old.json", plans)))
    assert old.state_dict().keys() == NnUNet(3, architecture=ARCHITECTURE).state_dict().keys()
    residual = copy.deepcopy(ARCHITECTURE)
    residual["network_class_name"] = ARCHITECTURE["network_class_name"].replace("PlainConv", "ResidualEncoder")
    residual["arch_kwargs"]["n_blocks_per_stage"] = residual["arch_kwargs"].pop("n_conv_per_stage")
    assert [stage["channels"] for stage in NnUNet(3, architecture=residual).feature_info] == [4, 8, 16]


NAMES = [
    "os.system",
    "builtins.eval",
    "hostile_module.Network",
    "torch.nn.functional.relu",
    "torch.nn.os.system",
    "torch.hub.load",
    "dynamic_network_architectures.architectures.unet.np.Dataset",
    "dynamic_network_architectures.architectures.unet.torch.os.system",
    "dynamic_network_architectures.architectures.unet.nn.Module",
    "..hostile_module.Network",
    None,
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("place", ["network_class_name", "conv_op"])
def test_nothing_else_is_imported(name: Any, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hostile_module.py").write_text("from torch.nn import Conv2d as Network\n")
    monkeypatch.syspath_prepend(tmp_path)
    plans = plans_json()
    architecture = plans["configurations"]["2d"]["architecture"]
    (architecture if place == "network_class_name" else architecture["arch_kwargs"])[place] = name
    with pytest.raises(UserError, match=r"nothing else is imported|needs the package|cannot be built"):
        NnUNet(3, plans=str(write_json(tmp_path / "plans.json", plans)))
    assert "hostile_module" not in sys.modules


def test_the_package_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("dynamic_network_architectures")]:
        monkeypatch.delitem(sys.modules, name)

    class Absent:
        @staticmethod
        def find_spec(name: str, *_: Any) -> None:
            if name == "dynamic_network_architectures":
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(sys, "meta_path", [Absent, *sys.meta_path])
    with pytest.raises(
        UserError, match=r"needs the package dynamic-network-architectures: pip install medseg_kd\[nnunet\]"
    ):
        NnUNet(3, architecture=ARCHITECTURE)


def test_what_cannot_be_built_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="needs plans="):
        NnUNet(3)
    volumes = write_json(tmp_path / "plans.json", plans_json(patch_size=[8, 32, 32], spacing=[3, 1, 1]))
    with pytest.raises(UserError, match=r"patches of \(8, 32, 32\) pixels .* Slices need the configuration 2d"):
        NnUNet(3, plans=str(volumes))
    with pytest.raises(UserError, match=r"PlainConvUNet cannot be built as the plans say \(n_conv_per_stage must have"):
        NnUNet(3, architecture=changed(n_conv_per_stage=[1]))
    with pytest.raises(UserError, match="cannot be built"):
        NnUNet(3, architecture=changed(strides=[[1, 1], [0, 2], [2, 2]]))
    with pytest.raises(UserError, match="expected one that the other divides"):
        NnUNet(3, architecture=changed(strides=[[1, 1], [3, 2], [1, 1]]))
    with pytest.raises(UserError, match="expected a dict, and names of what it imports"):
        NnUNet(3, architecture={**ARCHITECTURE, "_kw_requires_import": [["conv_op"]]})
    layer = {"network_class_name": "torch.nn.Conv2d", "arch_kwargs": {}, "_kw_requires_import": []}
    with pytest.raises(UserError, match="cannot be built"):
        NnUNet(3, architecture=layer)
