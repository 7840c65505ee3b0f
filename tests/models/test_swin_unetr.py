"""Swin-UNETR."""

import pytest
import torch
from monai.networks.nets import swin_unetr as monai_swin
from torch import nn

from medseg_kd.errors import UserError
from medseg_kd.models import SwinUNETR
from medseg_kd.models.networks.swin_encoder import SwinBlock
from tests.models.network_contract import NetworkContract


class TestSwinUNETR(NetworkContract):
    # The shifted block of the last stage: at 64x96 both of its axes are shorter than a window, at 128x64 one is.
    network = dict(type=SwinUNETR, num_classes=9, feature_size=12, depths=(1, 1, 1, 2))

    @pytest.mark.full
    def test_the_exported_network_takes_every_size(self, net, tmp_path):
        super().test_the_exported_network_takes_every_size(net, tmp_path)

    def test_stages(self, net):
        assert [stage["reduction"] for stage in net.feature_info] == [2, 4, 8, 16, 32]

    def test_the_decoder_takes_the_stages(self, net):
        with torch.no_grad():
            maps = net.swinViT(torch.rand(1, 1, 64, 64))
        for stage in maps:
            torch.testing.assert_close(stage.mean(1), torch.zeros_like(stage[:, 0]), atol=1e-5, rtol=0)
            assert stage.is_contiguous()

    def test_the_smallest_size(self, net):
        assert net.eval()(torch.rand(1, 1, 32, 64)).isfinite().all()
        with pytest.raises(UserError, match="32x64 and 64x32"):
            net(torch.rand(1, 1, 32, 32))


def test_the_published_size():
    with torch.device("meta"):
        net = SwinUNETR(9)
    assert sum(p.numel() for p in net.parameters()) == 25_138_323
    assert [stage["channels"] for stage in net.feature_info] == [48, 96, 192, 384, 768]


# Longer than a window with and without padding, as long, shorter; one axis of each.
@pytest.mark.parametrize("size", [(16, 14), (8, 21), (7, 7), (5, 16), (9, 4), (6, 6), (3, 2), (7, 8)])
@pytest.mark.parametrize("shifted", [False, True])
def test_a_block_is_monais(size, shifted):
    torch.manual_seed(0)
    shift = (3, 3) if shifted else (0, 0)
    theirs = monai_swin.SwinTransformerBlock(12, 3, (7, 7), shift)
    ours = SwinBlock(12, 3, 7, shifted, 0.0, 0.0, 0.0)
    nn.init.normal_(theirs.attn.relative_position_bias_table)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, *size, 12)
    window, moved = monai_swin.get_window_size(size, (7, 7), shift)
    padded = [-(-side // w) * w for side, w in zip(size, window, strict=True)]
    mask = monai_swin.compute_mask(padded, window, moved, x.device)
    results = []
    for block, arguments in ((theirs, (x, mask)), (ours, (x,))):
        out = block(*arguments)
        (out**2).sum().backward()
        results.append((out, *(block.get_parameter(name).grad for name, _ in theirs.named_parameters())))
    torch.testing.assert_close(*results, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("shifted", [False, True])
def test_what_prediction_laid_out_serves_training_and_another_size_its_own(shifted):
    torch.manual_seed(0)
    kept = SwinBlock(8, 2, 7, shifted, 0.0, 0.0, 0.0)
    for height, width in ((14, 20), (14, 20), (5, 14), (14, 20)):
        fresh = SwinBlock(8, 2, 7, shifted, 0.0, 0.0, 0.0)
        fresh.load_state_dict(kept.state_dict())
        x = torch.randn(2, height, width, 8)
        with torch.inference_mode():
            kept(x)
        results = [block(x) for block in (kept, fresh)]
        assert torch.equal(*results)
        results[0].sum().backward()


def test_drop_path_grows_with_depth():
    blocks = [m for m in SwinUNETR(9, feature_size=12, drop_path_rate=0.7).modules() if isinstance(m, SwinBlock)]
    assert [block.drop_path.drop_prob for block in blocks] == pytest.approx([i / 10 for i in range(8)])
    assert [block.attn.shift for block in blocks] == [0, 3] * 4


@pytest.mark.parametrize("wrong", [dict(depths=(2, 2)), dict(num_heads=(3, 6, 12)), dict(feature_size=10)])
def test_stages_that_do_not_fit_are_refused(wrong):
    with pytest.raises(UserError, match=f"{next(iter(wrong))}.*four of both, one"):
        SwinUNETR(9, **wrong)
