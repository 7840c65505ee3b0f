"""Weights of TransUNet's own code."""

import pytest
import torch

from medseg_kd.errors import UserError
from medseg_kd.models import TransUNet
from medseg_kd.models.checkpoint import load_weights
from medseg_kd.models.weights.transunet import convert
from tests.models.test_transunet import SMALL

HIDDEN, MLP, WIDTH, MIDDLE = (SMALL[key] for key in ("hidden_channels", "mlp_channels", "width", "middle_channels"))


def released(side: int = 4) -> dict[str, torch.Tensor]:
    """A state of the authors' ``VisionTransformer``: their names and shapes, of a small network."""
    shapes: dict[str, tuple[int, ...]] = {}

    def layer(name: str, *shape: int) -> None:
        shapes.update({f"{name}.weight": shape, f"{name}.bias": shape[:1]})

    resnet = "transformer.embeddings.hybrid_model"
    shapes[f"{resnet}.root.conv.weight"] = (WIDTH, 3, 7, 7)
    layer(f"{resnet}.root.gn", WIDTH)
    inputs = WIDTH
    for block, depth in enumerate(SMALL["depths"]):
        middle = WIDTH * 2**block
        for unit in range(depth):
            name = f"{resnet}.body.block{block + 1}.unit{unit + 1}"
            shapes[f"{name}.conv1.weight"] = (middle, inputs, 1, 1)
            shapes[f"{name}.conv2.weight"] = (middle, middle, 3, 3)
            shapes[f"{name}.conv3.weight"] = (4 * middle, middle, 1, 1)
            for index, width in enumerate((middle, middle, 4 * middle)):
                layer(f"{name}.gn{index + 1}", width)
            if unit == 0:
                shapes[f"{name}.downsample.weight"] = (4 * middle, inputs, 1, 1)
                layer(f"{name}.gn_proj", 4 * middle)
            inputs = 4 * middle
    layer("transformer.embeddings.patch_embeddings", HIDDEN, inputs, 1, 1)
    shapes["transformer.embeddings.position_embeddings"] = (1, side**2, HIDDEN)
    for index in range(SMALL["num_layers"]):
        name = f"transformer.encoder.layer.{index}"
        layer(f"{name}.attention_norm", HIDDEN)
        layer(f"{name}.ffn_norm", HIDDEN)
        layer(f"{name}.ffn.fc1", MLP, HIDDEN)
        layer(f"{name}.ffn.fc2", HIDDEN, MLP)
        for part in ("query", "key", "value", "out"):
            layer(f"{name}.attn.{part}", HIDDEN, HIDDEN)
    layer("transformer.encoder.encoder_norm", HIDDEN)

    def conv_bn_relu(name: str, width: int, channels: int) -> None:
        shapes[f"{name}.0.weight"] = (channels, width, 3, 3)
        layer(f"{name}.1", channels)
        shapes.update({f"{name}.1.running_mean": (channels,), f"{name}.1.running_var": (channels,)})
        shapes[f"{name}.1.num_batches_tracked"] = ()

    conv_bn_relu("decoder.conv_more", HIDDEN, MIDDLE)
    width = MIDDLE
    for index, channels in enumerate(SMALL["decoder_channels"]):
        skip = (8 * WIDTH, 4 * WIDTH, WIDTH, 0)[index]
        conv_bn_relu(f"decoder.blocks.{index}.conv1", width + skip, channels)
        conv_bn_relu(f"decoder.blocks.{index}.conv2", channels, channels)
        width = channels
    layer("segmentation_head.0", 9, width, 3, 3)
    generator = torch.Generator().manual_seed(0)
    # A shape of no axes is that of a batch norm's counter.
    return {
        name: torch.rand(shape, generator=generator) if shape else torch.tensor(7) for name, shape in shapes.items()
    }


@pytest.mark.parametrize("side", [4, 6])
def test_every_weight_finds_its_place(side):
    state = released(side)
    net = TransUNet(num_classes=9, img_size=64, **SMALL)
    load_weights(net, convert(state), "a file")
    ours = net.state_dict()
    for name, authors in {
        "resnet.root.conv.weight": "transformer.embeddings.hybrid_model.root.conv.weight",
        "resnet.block2.unit1.conv_proj.weight": (
            "transformer.embeddings.hybrid_model.body.block2.unit1.downsample.weight"
        ),
        "resnet.block2.unit2.gn3.bias": "transformer.embeddings.hybrid_model.body.block2.unit2.gn3.bias",
        "vit.blocks.1.mlp.fc2.weight": "transformer.encoder.layer.1.ffn.fc2.weight",
        "vit.blocks.1.mlp_norm.weight": "transformer.encoder.layer.1.ffn_norm.weight",
        "vit.norm.bias": "transformer.encoder.encoder_norm.bias",
        "decoder.blocks.3.conv2.1.running_var": "decoder.blocks.3.conv2.1.running_var",
        "head.weight": "segmentation_head.0.weight",
    }.items():
        assert torch.equal(ours[name], state[authors]), name
    qkv = ours["vit.blocks.0.attention.qkv.weight"].chunk(3)
    for given, part in zip(qkv, ("query", "key", "value"), strict=True):
        assert torch.equal(given, state[f"transformer.encoder.layer.0.attn.{part}.weight"])
    positions = state["transformer.embeddings.position_embeddings"]
    for row, column in ((0, 0), (1, 2), (side - 1, 0)):
        assert torch.equal(ours["vit.position_embedding.grid"][0, :, row, column], positions[0, row * side + column])


def test_what_is_missing_or_unknown_is_named():
    state = released()
    del state["transformer.encoder.layer.1.attn.key.bias"], state["segmentation_head.0.bias"]
    state["segmentation_head.1.weight"] = torch.ones(1)
    net = TransUNet(num_classes=9, img_size=64, **SMALL)
    with pytest.raises(UserError) as error:
        load_weights(net, convert(state), "a file")
    for named in (
        "vit.blocks.1.attention.qkv.bias",
        "vit.blocks.1.attention.query.bias",
        "vit.blocks.1.attention.value.bias",
        "head.bias",
        "segmentation_head.1.weight",
    ):
        assert named in str(error.value)


def test_other_channels_of_the_positions_are_refused():
    state = released()
    state["transformer.embeddings.position_embeddings"] = torch.ones(1, 16, HIDDEN + 1)
    with pytest.raises(UserError, match=r"grid: checkpoint \(1, 25, 4, 4\), model \(1, 24, 4, 4\)"):
        load_weights(TransUNet(num_classes=9, img_size=64, **SMALL), convert(state), "a file")
