"""Networks of segmentation_models_pytorch, by their names."""

import sys
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from medseg_kd import timm_import
from medseg_kd.configuration.checking import check_config
from medseg_kd.errors import UserError
from medseg_kd.inference.saved_model import saved_model
from medseg_kd.models import Segmentor
from medseg_kd.models.networks import smp_nets
from medseg_kd.registry import MODELS
from tests.distill.pairs import batch
from tests.torchvision_operators import smp_and_timm

smp, timm = smp_and_timm()
RESNET = [(64, 2), (64, 4), (128, 8), (256, 16), (512, 32)]
VIT = dict(encoder_name="tu-vit_tiny_patch16_224", dynamic_img_size=True)
# What the network needs its sides to be multiples of; channels and reductions of the encoder.
NETWORKS: dict[str, tuple[dict[str, Any], int, list[tuple[int, int]]]] = {
    "Unet": (dict(encoder_name="resnet18"), 32, RESNET),
    "UnetPlusPlus": (
        dict(encoder_name="mobilenet_v2", encoder_depth=3, decoder_channels=(8, 8, 8)),
        8,
        [(16, 2), (24, 4), (32, 8)],
    ),
    "FPN": (dict(encoder_name="tu-resnet10t", encoder_depth=4), 16, RESNET[:4]),
    "DeepLabV3Plus": (dict(encoder_name="resnet18"), 16, [*RESNET[:4], (512, 16)]),
    "MAnet": (dict(encoder_name="tu-convnext_atto"), 32, [(40, 4), (80, 8), (160, 16), (320, 32)]),
    "Segformer": (dict(encoder_name="mit_b0"), 32, [(32, 4), (64, 8), (160, 16), (256, 32)]),
    "DPT": (VIT, 32, [(256, 4), (256, 8), (256, 16), (256, 32)]),
}


def build(name: str = "Unet", **options: Any) -> Any:
    network = dict(type=f"smp.{name}", **{"encoder_name": "resnet18", **options})
    return MODELS.build(
        dict(type=Segmentor, num_classes=4, network=network, losses=[dict(type="mmseg.CrossEntropyLoss")])
    )


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_by_name(name):
    options, divisor, stages = NETWORKS[name]
    model = build(name, **options)
    assert (model.size_divisor, model.in_channels) == (divisor, 1)
    assert [(stage["channels"], stage["reduction"]) for stage in model.feature_info] == stages
    images, labels = batch((60, 44))
    model.loss(images, labels)["loss_ce"].backward()
    assert all(parameter.grad is not None for parameter in model.network.segmentation_head.parameters())
    with torch.no_grad():
        assert model.eval()(images).shape == (2, 4, 60, 44)


def test_the_class_itself_and_a_module():
    kind, module = (dict(type=smp.Unet, encoder_name="resnet18"), smp.Unet("resnet18", encoder_weights=None, classes=4))
    model = Segmentor(kind, num_classes=4, in_channels=3)
    assert (model.in_channels, model.size_divisor) == (3, 32)
    assert isinstance(model.network, smp.Unet) and model.network.init_weights() is None
    own = Segmentor(module, num_classes=4, in_channels=3)
    assert own.feature_info == model.feature_info and own.state_dict().keys() == model.state_dict().keys()
    full = "segmentation_models_pytorch.decoders.unet.model.Unet"  # as a dumped config has it
    assert MODELS.get(full) is MODELS.get("smp.Unet")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("Unett", {}, "smp.Unett is no network of segmentation_models_pytorch; did you mean Unet"),
        ("SomethingElse", {}, "there are Unet, UnetPlusPlus"),
        ("Unet", dict(encoder_name="resnet19"), "no encoder_name 'resnet19'.*did you mean resnet18"),
        ("Unet", dict(encoder_name="convnext_atto"), "did you mean tu-convnext_atto"),
        ("Unet", dict(encoder_depht=4), "with the encoder resnet18 has no key 'encoder_depht'; did you mean encoder_d"),
        ("Unet", dict(encoder_name="tu-resnet10t", depht=4), "smp.Unet cannot be built: .*'depht'"),
        ("Unet", dict(decoder_channels=(8, 4)), "smp.Unet cannot be built: Model depth is 5, but .* 2 blocks"),
        ("Unet", dict(activation="softmax"), "take the logits alone. Leave out activation"),
        ("Unet", dict(aux_params=dict(classes=2)), "Leave out activation, and aux_params"),
        ("Unet", dict(classes=7), "Unet gives 7 channels, but model.num_classes is 4"),
    ],
)
def test_mistakes(name, options, message):
    with pytest.raises(UserError, match=message):
        build(name, **options)(batch()[0])


def test_a_config_is_checked_against_it(tmp_path):
    model = dict(type="Segmentor", num_classes=4, network=dict(type="smp.Unet", decoder_attention_type=3))
    with pytest.raises(UserError, match="model.network.decoder_attention_type is 3, expected"):
        check_config(dict(default_scope="medseg_kd", model=model))


@pytest.mark.parametrize("encoder", ["resnet18", "tu-resnet10t", "tu-convnext_atto"])
def test_pretrained_weights_of_a_file_load_when_training_starts(encoder, tmp_path, monkeypatch):
    """RGB kernels are summed for one channel; what classifies is left out; another network's are refused."""
    monkeypatch.chdir(tmp_path)
    theirs = timm.create_model(encoder.removeprefix("tu-"))
    save_file({name: value.contiguous() for name, value in theirs.state_dict().items()}, "encoder.safetensors")
    model = build(encoder_name=encoder, encoder_weights="encoder.safetensors")
    stem, own = (next(m for m in net.modules() if isinstance(m, torch.nn.Conv2d)) for net in (theirs, model.network))
    assert not torch.equal(own.weight, stem.weight.sum(1, keepdim=True))
    model.init_weights()
    torch.testing.assert_close(own.weight, stem.weight.sum(1, keepdim=True))
    image = torch.rand(1, 1, 64, 64)
    features = timm.create_model(encoder.removeprefix("tu-"), features_only=True)
    features.load_state_dict(dict(zip(features.state_dict(), theirs.state_dict().values(), strict=False)))
    with torch.no_grad():
        deepest = features.eval()(image.expand(1, 3, -1, -1))[-1]
        torch.testing.assert_close(model.eval().network.encoder(image)[-1], deepest, rtol=1e-3, atol=1e-4)
    with pytest.raises(UserError, match=r"encoder_weights=encoder.safetensors.*another network"):
        build(encoder_name="mobilenet_v2", encoder_weights="encoder.safetensors").init_weights()


@pytest.mark.parametrize("kind", ["smp.Unet", "segmentation_models_pytorch.Unet"])
def test_a_checkpoint_is_enough(kind):
    """Without the file that its training started from, and without a name of it being imported."""
    network = dict(type=kind, encoder_name="resnet18", encoder_weights="gone.safetensors")
    config = dict(type="Segmentor", num_classes=4, network=network)
    weights = build().state_dict()
    assert torch.equal(
        saved_model(config, weights, "it").state_dict()["network.encoder.bn1.bias"], weights["network.encoder.bn1.bias"]
    )
    network["type"] = "segmentation_models_pytorch.encoders.get_encoder"
    with pytest.raises(UserError, match="is no network of segmentation_models_pytorch"):
        saved_model(config, weights, "it")


def test_pretrained_weights_of_the_hub(tmp_path, monkeypatch):
    """From its cache, in which they lie as a download puts them; without it one message tells what to fetch."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    model = build(encoder_weights="imagenet")
    with pytest.raises(
        UserError, match="model.safetensors of smp-hub/resnet18.imagenet cannot be downloaded.*name the"
    ):
        model.init_weights()
    with pytest.raises(UserError, match="Wrong pretrained weights `imagenett`.*'ssl'"):
        build(encoder_weights="imagenett").init_weights()
    with pytest.raises(UserError, match="model.safetensors of timm/resnet10t.* cannot be downloaded"):
        build(encoder_name="tu-resnet10t", encoder_weights=True).init_weights()
    entry = smp.encoders.encoders["resnet18"]["pretrained_settings"]["imagenet"]
    folder = tmp_path / f"models--{entry['repo_id'].replace('/', '--')}" / "snapshots" / entry["revision"]
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    weights = smp.Unet("resnet18", encoder_weights=None).encoder.state_dict()
    save_file(weights, folder / "model.safetensors")
    model.init_weights()
    assert torch.equal(model.network.encoder.layer4[1].conv2.weight, weights["layer4.1.conv2.weight"])
    torch.testing.assert_close(model.network.encoder.conv1.weight, weights["conv1.weight"].sum(1, keepdim=True))


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "segmentation_models_pytorch", None)
    with pytest.raises(UserError, match="smp.Unet needs seg.*pip install segmentation-models-pytorch$"):
        smp_nets.find("smp.Unet")


def test_a_torchvision_of_another_build(monkeypatch):
    """Said as an ImportError of timm, so that MMSegmentation does without it and who needs it tells in one line."""

    def refuse(name: str) -> Any:
        if name == "torchvision":
            raise RuntimeError("operator torchvision::nms does not exist")
        return torch

    monkeypatch.setattr(timm_import, "import_module", refuse)
    monkeypatch.delitem(sys.modules, "timm")
    with pytest.raises(ImportError, match=r"torchvision does not fit PyTorch 2.*nms.*tools/doctor.py"):
        import timm  # noqa: F401
    monkeypatch.setattr(smp_nets, "import_module", lambda name: __import__("timm"))
    with pytest.raises(UserError, match="smp.Unet needs segmentation_models_pytorch: torchvision does not fit"):
        smp_nets.find("smp.Unet")
