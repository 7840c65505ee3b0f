"""Google's npz of the hybrid vision transformer, made here with its names, shapes and order of axes."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.logging import MMLogger
from scipy import ndimage

from medseg_kd.errors import UserError
from medseg_kd.models import TransUNet
from medseg_kd.registry import MODELS
from tests.models.test_transunet import SMALL

HIDDEN, HEADS, MLP, WIDTH = SMALL["hidden_channels"], SMALL["num_heads"], SMALL["mlp_channels"], SMALL["width"]
ATTENTION = "MultiHeadDotProductAttention_1"


def google(tokens: int = 17) -> dict[str, np.ndarray]:
    """Arrays of a small network; the positions are ``tokens``, the class token's first where it has one."""
    rng = np.random.default_rng(0)
    shapes = {"cls": (1, 1, HIDDEN), "conv_root/kernel": (7, 7, 3, WIDTH)}

    def norm(key: str, *shape: int) -> None:
        shapes.update({f"{key}/scale": shape, f"{key}/bias": shape})

    def dense(key: str, *shape: int, bias: tuple[int, ...]) -> None:
        shapes.update({f"{key}/kernel": shape, f"{key}/bias": bias})

    norm("gn_root", 1, 1, 1, WIDTH)
    inputs = WIDTH
    for block, depth in enumerate(SMALL["depths"]):
        middle = WIDTH * 2**block
        for unit in range(depth):
            name = f"block{block + 1}/unit{unit + 1}"
            shapes[f"{name}/conv1/kernel"] = (1, 1, inputs, middle)
            shapes[f"{name}/conv2/kernel"] = (3, 3, middle, middle)
            shapes[f"{name}/conv3/kernel"] = (1, 1, middle, 4 * middle)
            for index, width in enumerate((middle, middle, 4 * middle)):
                norm(f"{name}/gn{index + 1}", 1, 1, 1, width)
            if unit == 0:
                shapes[f"{name}/conv_proj/kernel"] = (1, 1, inputs, 4 * middle)
                norm(f"{name}/gn_proj", 1, 1, 1, 4 * middle)
            inputs = 4 * middle
    dense("embedding", 1, 1, inputs, HIDDEN, bias=(HIDDEN,))
    shapes["Transformer/posembed_input/pos_embedding"] = (1, tokens, HIDDEN)
    norm("Transformer/encoder_norm", HIDDEN)
    for layer in range(SMALL["num_layers"]):
        root = f"Transformer/encoderblock_{layer}"
        norm(f"{root}/LayerNorm_0", HIDDEN)
        norm(f"{root}/LayerNorm_2", HIDDEN)
        for name in ("query", "key", "value"):
            dense(f"{root}/{ATTENTION}/{name}", HIDDEN, HEADS, HIDDEN // HEADS, bias=(HEADS, HIDDEN // HEADS))
        dense(f"{root}/{ATTENTION}/out", HEADS, HIDDEN // HEADS, HIDDEN, bias=(HIDDEN,))
        dense(f"{root}/MlpBlock_3/Dense_0", HIDDEN, MLP, bias=(MLP,))
        dense(f"{root}/MlpBlock_3/Dense_1", MLP, HIDDEN, bias=(HIDDEN,))
    dense("pre_logits", HIDDEN, HIDDEN, bias=(HIDDEN,))
    dense("head", HIDDEN, 10, bias=(10,))
    return {key: rng.standard_normal(shape).astype(np.float32) for key, shape in shapes.items()}


@pytest.fixture
def save(tmp_path):
    def _save(arrays, name="R50+ViT-B_16.npz"):
        np.savez(tmp_path / name, **arrays)
        return str(tmp_path / name)

    return _save


@pytest.fixture
def log(caplog):
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    with caplog.at_level(logging.INFO):
        yield caplog
    logger.removeHandler(caplog.handler)


@pytest.fixture
def net() -> TransUNet:
    return TransUNet(num_classes=9, img_size=64, **SMALL).eval()


def test_init_cfg_loads_the_encoder_and_the_log_says_so(save, log):
    arrays = google()
    network = dict(type=TransUNet, num_classes=9, img_size=64, **SMALL)
    net = MODELS.build({**network, "init_cfg": dict(type="Pretrained", checkpoint=save(arrays))})
    decoder = {name: value.clone() for name, value in net.state_dict().items() if name.startswith(("decoder", "head"))}
    net.init_weights()
    state = net.state_dict()
    assert all(torch.equal(state[name], value) for name, value in decoder.items())
    assert "the encoder's 77 weights start from" in log.text
    assert "resized" not in log.text
    kernel = torch.from_numpy(arrays["block2/unit1/conv2/kernel"])
    assert torch.equal(state["resnet.block2.unit1.conv2.weight"], kernel.permute(3, 2, 0, 1))
    assert torch.equal(
        state["resnet.block1.unit1.gn_proj.weight"], torch.from_numpy(arrays["block1/unit1/gn_proj/scale"]).flatten()
    )
    positions = torch.from_numpy(arrays["Transformer/posembed_input/pos_embedding"])[:, 1:]
    assert torch.equal(state["vit.position_embedding.grid"].flatten(2).transpose(1, 2), positions)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 6])
def test_the_stem_is_fitted_to_the_image(save, log, channels):
    arrays = google()
    net = TransUNet(num_classes=9, in_channels=channels, img_size=64, **SMALL).eval()
    net.load_pretrained(save(arrays))
    kernel = torch.from_numpy(arrays["conv_root/kernel"]).permute(3, 2, 0, 1)
    fitted = channels not in (1, 3)
    wanted = torch.cat((kernel, kernel), dim=1)[:, :channels] * (3 / channels) if fitted else kernel
    torch.testing.assert_close(net.resnet.root.conv.weight.data, wanted)
    told = [line for line in log.messages if "input channels" in line]
    rule = f"resnet.root.conv.weight repeated cyclically, times 3/{channels}, from its 3 input channels"
    assert len(told) == fitted and all(rule in line for line in told)
    with torch.no_grad():
        assert net(torch.rand(1, channels, 64, 64)).isfinite().all()


def test_a_stem_of_the_network_s_channels_is_not_google_s(save):
    arrays = google()
    arrays["conv_root/kernel"] = np.repeat(arrays["conv_root/kernel"], 2, axis=2)
    net = TransUNet(num_classes=9, in_channels=6, img_size=64, **SMALL)
    with pytest.raises(UserError, match=r"conv_root/kernel: float32 \(7, 7, 6, 32\), expected float \(7, 7, 3, 32\)"):
        net.load_pretrained(save(arrays))


def test_the_transformer_computes_what_the_arrays_say(save, net):
    """The first block in JAX's own terms: every dense layer is an einsum over the array as it lies in the file."""
    arrays = google()
    net.load_pretrained(save(arrays))
    given = {key: torch.from_numpy(value) for key, value in arrays.items()}
    root = "Transformer/encoderblock_0"

    def norm(x, key):
        return F.layer_norm(x, (HIDDEN,), given[f"{root}/{key}/scale"], given[f"{root}/{key}/bias"], eps=1e-6)

    def dense(x, key, equation):
        return torch.einsum(equation, x, given[f"{root}/{key}/kernel"]) + given[f"{root}/{key}/bias"]

    tokens = torch.randn(2, 16, HIDDEN)
    x = norm(tokens, "LayerNorm_0")
    query, key, value = (dense(x, f"{ATTENTION}/{name}", "ntc,chd->nthd") for name in ("query", "key", "value"))
    weights = torch.einsum("nqhd,nkhd->nhqk", query, key).div((HIDDEN // HEADS) ** 0.5).softmax(-1)
    x = dense(torch.einsum("nhqk,nkhd->nqhd", weights, value), f"{ATTENTION}/out", "nthd,hdc->ntc") + tokens
    hidden = F.gelu(dense(norm(x, "LayerNorm_2"), "MlpBlock_3/Dense_0", "ntc,cm->ntm"))
    wanted = x + dense(hidden, "MlpBlock_3/Dense_1", "ntm,mc->ntc")
    with torch.no_grad():
        torch.testing.assert_close(net.vit.blocks[0](tokens), wanted, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("tokens", [16, 17])
def test_the_class_token_is_left_out(save, net, tokens):
    arrays = google(tokens)
    net.load_pretrained(save(arrays))
    positions = arrays["Transformer/posembed_input/pos_embedding"][:, tokens - 16 :]
    assert np.array_equal(net.vit.position_embedding.grid.flatten(2).mT.detach().numpy(), positions)


def test_positions_of_another_grid_are_zoomed_to_the_network_s(save, net, log):
    arrays = google(37)
    net.load_pretrained(save(arrays))
    grid = arrays["Transformer/posembed_input/pos_embedding"][0, 1:].reshape(6, 6, HIDDEN)
    wanted = ndimage.zoom(grid, (4 / 6, 4 / 6, 1), order=1)
    given = net.vit.position_embedding.grid[0].permute(1, 2, 0).detach().numpy()
    np.testing.assert_allclose(given, wanted, atol=1e-6)
    assert "resized from 6x6 to 4x4" in log.text


def test_every_fault_is_listed(save, net):
    arrays = google()
    del arrays["gn_root/scale"], arrays[f"Transformer/encoderblock_1/{ATTENTION}/key/bias"]
    arrays["embedding/kernel"] = arrays["embedding/kernel"][..., :-1]
    arrays["block1/unit1/conv1/kernel"] = arrays["block1/unit1/conv1/kernel"].transpose(0, 1, 3, 2)[:, :, :, :7]
    arrays["Transformer/encoderblock_2/LayerNorm_0/bias"] = np.zeros(HIDDEN, np.float32)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.raises(UserError) as error:
        net.load_pretrained(save(arrays))
    listed = str(error.value).splitlines()[1:]
    assert sorted(line.split(":")[0].strip() for line in listed) == [
        f"Transformer/encoderblock_1/{ATTENTION}/key/bias",
        "Transformer/encoderblock_2/LayerNorm_0/bias",
        "block1/unit1/conv1/kernel",
        "embedding/kernel",
        "gn_root/scale",
    ]
    assert "(1, 1, 512, 23), expected float (1, 1, 512, 24)" in str(error.value)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize("tokens", [15, 0])
def test_positions_that_are_no_square_are_refused(save, net, tokens):
    with pytest.raises(UserError, match=rf"pos_embedding: float32 \(1, {tokens}, 24\)"):
        net.load_pretrained(save(google(tokens)))


def test_code_in_a_file_is_not_run(save, net):
    with pytest.raises(UserError, match="cannot be read"):
        net.load_pretrained(save({**google(), "gn_root/scale": np.array([print], dtype=object)}))


def test_a_damaged_file_and_a_missing_one(save, net, tmp_path):
    (tmp_path / "cut.npz").write_bytes(Path(save(google())).read_bytes()[:1000])
    with pytest.raises(UserError, match="cannot be read"):
        net.load_pretrained(str(tmp_path / "cut.npz"))
    with pytest.raises(UserError, match="not found"):
        net.load_pretrained(str(tmp_path / "absent.npz"))


def test_a_checkpoint_of_a_whole_network_brings_its_grid(net, tmp_path):
    other = TransUNet(num_classes=9, img_size=(96, 128), **SMALL).eval()
    torch.nn.init.normal_(other.vit.position_embedding.grid)
    state = {f"network.{name}": value for name, value in other.state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "iter_1.pth")
    net.load_pretrained(str(tmp_path / "iter_1.pth"))
    x = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        assert torch.equal(net(x), other(x))
    assert net.vit.position_embedding.grid.shape[-2:] == (6, 8)
