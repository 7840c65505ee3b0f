"""The authors' MISSFormer, with its names and layers, turned into ours."""

import logging

import pytest
import torch
from mmengine.logging import MMLogger
from torch import nn

from medseg_kd.errors import UserError
from medseg_kd.models import MISSFormer
from medseg_kd.models.checkpoint import load_weights
from medseg_kd.models.networks.missformer_blocks import Reduction, to_tokens
from medseg_kd.models.weights.missformer import convert, unused_weights
from tests.models.weights import missformer_network

UNUSED = unused_weights((2, 2, 2, 2), bridge_layers=4)
SMALL = dict(num_classes=9, channels=(64, 128, 64, 192), heads=(1, 2, 4, 3))


@pytest.fixture(scope="module")
def theirs() -> nn.Module:
    """A small network of theirs whose norms and biases are not those of a new one."""
    torch.manual_seed(0)
    net = missformer_network.MISSFormer(**SMALL)
    for parameter in net.parameters():
        if parameter.ndim == 1:
            nn.init.uniform_(parameter, 0.5, 1.5)
    return net


@pytest.fixture(scope="module")
def published() -> dict[str, torch.Tensor]:
    """Names and shapes of the published network."""
    with torch.device("meta"):
        return missformer_network.MISSFormer(9, (64, 128, 320, 512), (1, 2, 5, 8)).state_dict()


@pytest.mark.parametrize("size", [(64, 64), (96, 160)])
def test_the_logits_on_grey_images_are_the_same(theirs, size):
    ours = MISSFormer(**SMALL).eval()
    load_weights(ours, convert(theirs.state_dict()), "a file")
    x = torch.rand(2, 1, *size)
    with torch.no_grad():
        wanted, given = theirs(x.repeat(1, 3, 1, 1)), ours(x)
    assert wanted.std() > 0.1
    torch.testing.assert_close(given, wanted, rtol=0, atol=1e-5 * float(wanted.max() - wanted.min()))


def test_what_is_dropped_is_what_no_output_depends_on(theirs):
    theirs.zero_grad()
    theirs(torch.rand(1, 3, 64, 64)).square().mean().backward()
    assert {name for name, parameter in theirs.named_parameters() if parameter.grad is None} == UNUSED
    assert len(convert(dict.fromkeys(UNUSED, torch.zeros(1)))) == 0


def test_every_weight_of_ours_comes_from_theirs(published):
    assert sum(value.numel() for value in published.values()) == 42_462_537
    assert sum(published[name].numel() for name in UNUSED) == 7_009_792
    with torch.device("meta"):
        ours = MISSFormer(num_classes=9).state_dict()
    assert {k: v.shape for k, v in convert(published).items()} == {k: v.shape for k, v in ours.items()}


@pytest.mark.parametrize(
    "unknown",
    [
        "bridge.bridge_layer5.norm1.weight",
        "decoder_3.layer_former_3.norm1.weight",
        "decoder_3.layer_former_1.attn.sr.weight",
        "backbone.block1.2.mlp.norm2.weight",
        "backbone.block1.0.mlp.norm4.weight",
    ],
)
def test_what_is_not_theirs_is_refused(theirs, unknown):
    """Names that resemble those which are dropped, too."""
    with pytest.raises(UserError, match=r"does not fit MISSFormer.*\n  1 not in the model"):
        load_weights(MISSFormer(**SMALL), convert({**theirs.state_dict(), unknown: torch.zeros(64)}), "a file")


def test_a_checkpoint_of_an_earlier_version_that_kept_what_is_unused(theirs, caplog):
    """There it was called ``unused.``, with two underscores for a dot."""
    state = theirs.state_dict()
    weights = {f"network.{name}": value for name, value in convert(state).items()}
    kept = {f"network.unused.{name.replace('.', '__')}": state[name] for name in UNUSED}
    model = nn.Module()
    model.network = MISSFormer(**SMALL)
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    with caplog.at_level(logging.INFO):
        load_weights(model, {**weights, **kept}, "iter_1.pth")
    logger.removeHandler(caplog.handler)
    assert [line for line in caplog.messages if "left out" in line] == [
        "iter_1.pth: left out 166 weights of an earlier version that no output used"
    ]
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    with pytest.raises(UserError, match=r"1 not in the model: network\.unused\.decoder_0__concat_linear__bias"):
        load_weights(model, {**weights, **kept, "network.unused.decoder_0__concat_linear__bias": torch.zeros(1)}, "a")


def test_the_stem_sees_grey_once():
    stem, grey = torch.randn(64, 3, 7, 7), torch.randn(2, 1, 16, 16)
    summed = convert({"backbone.patch_embed1.proj.weight": stem})["encoder.0.patch_embed.weight"]
    wanted = nn.functional.conv2d(grey.expand(-1, 3, -1, -1), stem)
    torch.testing.assert_close(nn.functional.conv2d(grey, summed), wanted, rtol=1e-4, atol=1e-4)


def test_the_reduction_of_the_bridge_gives_the_same_tokens():
    theirs = nn.Conv2d(128, 128, 4, 4)
    prefix = "bridge.bridge_layer1.attn.scale_reduce.sr1."
    converted = convert({prefix + name: value for name, value in theirs.state_dict().items()})
    ours = Reduction(128, 4)
    ours.load_state_dict({name.removeprefix("bridge.0.reduce.1."): value for name, value in converted.items()})
    x = torch.randn(2, 8, 12, 128)
    # Theirs: (N, 128, 2, 3) read as (N, 64, 12), twelve tokens. Ours: the two tokens of a position one after the other.
    wanted = theirs(x.permute(0, 3, 1, 2)).reshape(2, 64, 2, 6).permute(0, 3, 2, 1).flatten(1, 2)
    torch.testing.assert_close(to_tokens([ours(x)], 64), wanted)


def test_a_name_that_is_not_theirs_stays():
    unknown = {"bridge.bridge_layer5.norm1.weight": torch.zeros(64)}
    assert convert(unknown) == unknown
