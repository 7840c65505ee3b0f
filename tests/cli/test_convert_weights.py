"""``tools/convert_weights.py``: what goes in, what comes out, what is refused."""

import pytest
import torch
from mmengine.config import Config

from medseg_kd.cli import convert_weights
from medseg_kd.errors import UserError
from medseg_kd.registry import MODELS

FCN = "configs/fcn/fcn_r18_d8_40k_synapse.py"
UNET = "configs/unet/unet_r18v1c_d8_40k_synapse.py"


def seed_checkpoint(config: str, classes: int = 9) -> dict[str, torch.Tensor]:
    """An FCN's weights under the names and with the stem of the seed project."""
    torch.manual_seed(0)
    model = Config.fromfile(config).model
    state = MODELS.build({**model, "num_classes": classes}).network.state_dict()
    renamed = {("decode_" + key if key.startswith("head.") else key): value for key, value in state.items()}
    stem = renamed["backbone.stem.0.weight"]
    renamed["backbone.stem.0.weight"] = torch.cat([0.5 * stem, 0.25 * stem, 0.25 * stem], dim=1)
    return renamed


def run(tmp_path, checkpoint, *options: str, source: str = "mmseg_kd"):
    torch.save(checkpoint, tmp_path / "in.pth")
    convert_weights.main([source, str(tmp_path / "in.pth"), str(tmp_path / "out.pth"), *options])
    return torch.load(tmp_path / "out.pth", weights_only=True)


@pytest.mark.parametrize("wrap", [dict, lambda s: {"state_dict": s, "meta": {}}, lambda s: {"model": s}])
def test_what_comes_out_loads_into_the_config(tmp_path, capsys, wrap):
    given = {f"module.{key}": value for key, value in seed_checkpoint(FCN).items()}
    written = run(tmp_path, wrap(given))
    assert written["meta"] == {"converted_from": "mmseg_kd", "file": "in.pth"}
    model = MODELS.build(Config.fromfile(FCN).model)
    model.load_state_dict(written["state_dict"])
    torch.testing.assert_close(
        model.network.backbone.stem[0].weight, given["module.backbone.stem.0.weight"].sum(1, keepdim=True)
    )
    assert torch.equal(model.network.head.conv_seg.weight, given["module.decode_head.conv_seg.weight"])
    assert f"for {FCN}\n" in capsys.readouterr().out


def test_another_number_of_classes(tmp_path):
    given = seed_checkpoint(FCN, classes=4)
    with pytest.raises(UserError, match=r"(?s)does not fit .*fcn_r18.*conv_seg.weight: checkpoint \(4, .*model \(9, "):
        run(tmp_path, given)
    assert not (tmp_path / "out.pth").exists()
    assert len(run(tmp_path, given, "--num-classes", "4")["state_dict"]) == len(given)


def test_another_config(tmp_path):
    with pytest.raises(UserError, match="does not fit configs/unet/"):
        run(tmp_path, seed_checkpoint(FCN), "--config", UNET)


def test_weights_of_another_network(tmp_path):
    with pytest.raises(UserError, match=r"(?s)does not fit .*missing in the checkpoint.*not in the model: encoder"):
        run(tmp_path, {"encoder.weight": torch.ones(2)})


def test_a_file_without_weights(tmp_path):
    with pytest.raises(UserError, match="holds no weights: its keys are epoch"):
        run(tmp_path, {"state_dict": {"epoch": 3}})


def test_an_output_that_is_there_stays(tmp_path):
    (tmp_path / "out.pth").write_bytes(b"mine")
    with pytest.raises(UserError, match="--overwrite"):
        run(tmp_path, seed_checkpoint(FCN))
    assert (tmp_path / "out.pth").read_bytes() == b"mine"
    assert run(tmp_path, seed_checkpoint(FCN), "--overwrite")["state_dict"]


def test_an_encoder_is_for_init_cfg(tmp_path, capsys):
    encoder = {"conv1.weight": torch.rand(64, 3, 7, 7), "fc.weight": torch.rand(1000, 512)}
    written = run(tmp_path, encoder, source="resnet")
    assert list(written["state_dict"]) == ["conv1.weight"]
    assert "init_cfg" in capsys.readouterr().out
    with pytest.raises(UserError, match="--config: resnet gives the weights of an encoder"):
        run(tmp_path, encoder, "--overwrite", "--config", FCN, source="resnet")
