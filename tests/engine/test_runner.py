"""The runner: exact resume, plain checkpoints, strict loading."""

import pytest
import torch

from medseg_kd.engine import BFloat16OptimWrapper, Runner
from medseg_kd.errors import UserError
from tests.engine.tiny import tiny_config


def _equal(one, other) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(_equal, one, other))
    return one == other


@pytest.fixture(scope="module")
def run(phantom, tmp_path_factory):
    """A run of four iterations with a checkpoint at the second."""
    folder = tmp_path_factory.mktemp("run")
    Runner.from_cfg(tiny_config(phantom, folder)).train()
    return folder


def test_a_checkpoint_opens_without_an_allow_list(run):
    checkpoint = torch.load(run / "iter_4.pth", weights_only=True)
    assert set(checkpoint) == {"meta", "state_dict", "message_hub", "optimizer", "param_schedulers"}
    assert checkpoint["meta"]["iter"] == 4
    assert all(key.startswith("network.") for key in checkpoint["state_dict"])
    assert len(checkpoint["message_hub"]["log_scalars"]["train/loss"]["log"]) == 4


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_run_equals_the_run_that_was_never_stopped(run, phantom, tmp_path, workers):
    changes = {"train_dataloader.num_workers": workers}
    Runner.from_cfg(tiny_config(phantom, tmp_path, max_iters=2, **changes)).train()
    cfg = tiny_config(phantom, tmp_path, max_iters=4, **changes)
    cfg.update(resume=True, load_from=str(tmp_path / "iter_2.pth"))
    Runner.from_cfg(cfg).train()
    whole, resumed = (torch.load(folder / "iter_4.pth", weights_only=True) for folder in (run, tmp_path))
    assert _equal(whole["state_dict"], resumed["state_dict"])
    assert _equal(whole["optimizer"], resumed["optimizer"])
    losses = [each["message_hub"]["log_scalars"]["train/loss"]["log"] for each in (whole, resumed)]
    assert losses[0] == losses[1]


def test_the_seed_decides_the_run(run, phantom, tmp_path):
    Runner.from_cfg(tiny_config(phantom, tmp_path / "same", max_iters=2)).train()
    Runner.from_cfg(tiny_config(phantom, tmp_path / "other", max_iters=2, **{"randomness.seed": 1})).train()
    first, same, other = (
        torch.load(folder / "iter_2.pth", weights_only=True)["state_dict"]
        for folder in (run, tmp_path / "same", tmp_path / "other")
    )
    assert _equal(first, same)
    assert not _equal(first, other)


def test_weights_of_another_network_are_refused(run, phantom, tmp_path):
    cfg = tiny_config(phantom, tmp_path, **{"model.network.width": 8})
    cfg.load_from = str(run / "iter_4.pth")
    with pytest.raises(UserError, match=r"of another shape:\n    network.stem.0.weight"):
        Runner.from_cfg(cfg).test()


def test_a_finished_run_stays_finished(run, phantom):
    before = (run / "iter_4.pth").read_bytes()
    cfg = tiny_config(phantom, run)
    cfg.update(resume=True, load_from=str(run / "iter_4.pth"))
    Runner.from_cfg(cfg).train()
    assert (run / "iter_4.pth").read_bytes() == before
    assert "nothing is left to train" in max(run.rglob("*.log")).read_text(encoding="utf-8")


def test_weights_alone_cannot_be_resumed(run, phantom, tmp_path):
    weights = tmp_path / "weights.pth"
    torch.save({"state_dict": torch.load(run / "iter_4.pth", weights_only=True)["state_dict"]}, weights)
    cfg = tiny_config(phantom, tmp_path)
    cfg.update(resume=True, load_from=str(weights))
    with pytest.raises(UserError, match="no optimizer state"):
        Runner.from_cfg(cfg).train()


def test_bf16_trains_on_the_cpu_in_bf16(phantom, tmp_path):
    cfg = tiny_config(phantom, tmp_path, max_iters=2)
    cfg.optim_wrapper.type = BFloat16OptimWrapper
    runner = Runner.from_cfg(cfg)
    seen = []
    runner.model.network.head.register_forward_hook(lambda _, __, out: seen.append(out.dtype))
    runner.train()
    assert seen[:2] == [torch.bfloat16] * 2
    weights = torch.load(tmp_path / "iter_2.pth", weights_only=True)["state_dict"]
    assert all(value.dtype != torch.bfloat16 for value in weights.values())


def test_the_log_shows_what_a_user_watches(run):
    log = min(run.rglob("*.log")).read_text(encoding="utf-8")
    line = next(line for line in log.splitlines() if "[4/4]" in line)
    for part in ("loss", "loss_ce", "loss_dice", "lr", "s/iter", "data wait", "memory", "eta"):
        assert part in line
    assert "Could not import" not in log
    assert "max_iters=4" in next(run.glob("*.py")).read_text(encoding="utf-8")
