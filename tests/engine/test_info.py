"""The terms of the loss reach the log and the checkpoint, also where they wait on the device for it."""

import pytest
import torch

from medseg_kd.engine import Runner, info
from tests.engine.tiny import tiny_config


@pytest.mark.parametrize("interval", [1, 3, 50])
def test_terms_that_wait_are_all_handed_on(phantom, tmp_path, monkeypatch, interval):
    """With an interval beyond a pass over the slices too, where MMEngine's logger adds a line."""
    histories = []
    for waits in (False, True):
        monkeypatch.setattr(info, "is_waited_for", lambda outputs, waits=waits: waits)
        folder = tmp_path / str(waits)
        cfg = tiny_config(phantom, folder, max_iters=5, **{"default_hooks.logger.interval": interval})
        cfg.default_hooks.checkpoint.interval = 4
        cfg.train_dataloader.batch_size = 8
        runner = Runner.from_cfg(cfg)
        assert len(Runner.build_dataloader(cfg.train_dataloader)) < 4
        runner.train()
        hub = torch.load(folder / "iter_4.pth", weights_only=True)["message_hub"]["log_scalars"]
        histories.append({name: hub[f"train/{name}"]["log"] for name in ("loss", "loss_ce", "loss_dice")})
        assert len(runner.message_hub.get_scalar("train/loss").data[0]) == 5
    assert histories[0] == histories[1]
    assert len(histories[0]["loss"]) == 4


def test_values_on_the_cpu_do_not_wait():
    assert not info.is_waited_for({"loss": torch.ones(())})
    assert not info.is_waited_for({"loss": torch.ones((), device="meta"), "n": 1})


def test_what_a_line_cannot_show_and_gpus_that_are_not_there_are_told(phantom, tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-beef")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    cfg = tiny_config(phantom, tmp_path / "run", max_iters=2, **{"default_hooks.logger.interval": 1})
    terms = [dict(data_src=name, method_name="mean", window_size=1) for name in ("loss_dise", "loss_ce")]
    cfg.log_processor.update(custom_cfg=[dict(each, log_name=f"own_{each['data_src']}") for each in terms])
    Runner.from_cfg(cfg).train()
    (log,) = (tmp_path / "run").rglob("*.log")
    said = log.read_text()
    assert said.count("custom_cfg names loss_dise, which this training does not log; it logs ") == 1
    assert said.count("CUDA_VISIBLE_DEVICES is 'GPU-beef'") == 1
