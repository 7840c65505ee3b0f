"""Where a run goes on: after the slices it has taken, with the gradients it has accumulated."""

from typing import Any

import pytest
import torch
from mmengine.hooks import Hook

from medseg_kd.distill import ReviewKD, SingleTeacherDistill
from medseg_kd.engine import Runner
from medseg_kd.errors import UserError
from tests.engine.test_runner import _equal
from tests.engine.tiny import tiny_config

_BF16 = {"optim_wrapper.type": "BFloat16OptimWrapper"}
_EMA = {"custom_hooks": [dict(type="EMAHook", momentum=0.2)]}


class Watch(Hook):
    """Keeps the slices of each batch, and breaks off at the beginning of an iteration."""

    priority = "LOWEST"

    def __init__(self, ends_at: int | None = None) -> None:
        self.ends_at = ends_at
        self.seen: list[list[tuple[str, int]]] = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if batch_idx == self.ends_at:
            raise KeyboardInterrupt
        self.seen.append([(each["case_name"], each["slice_index"]) for each in data_batch["meta"]])


def _run(phantom, folder, ends_at=None, goes_on=None, distilled=False, **changes: Any) -> list[list[tuple[str, int]]]:
    """The slices of each batch of eight iterations, with a checkpoint after each."""
    cfg = tiny_config(phantom, folder, 8, **changes)
    cfg.default_hooks.checkpoint.update(interval=1, save_best=None)
    if distilled:
        teacher = {**cfg.model, "network": {**cfg.model.network, "width": 6}}
        weights = dict(weight_schedule=dict(warm_up=3, decay="cosine"), loss_weight=dict(type="GradientShare", every=3))
        distiller = dict(type=ReviewKD, mid_channel=4, **weights)
        cfg.model = dict(type=SingleTeacherDistill, architecture=cfg.model, teacher=teacher, distiller=distiller)
    if goes_on is not None:
        cfg.update(resume=True, load_from=str(folder / f"iter_{goes_on}.pth"))
    runner = Runner.from_cfg(cfg)
    watch = Watch(ends_at)
    runner.register_hook(watch)
    try:
        runner.train()
    except KeyboardInterrupt:
        assert ends_at is not None
    return watch.seen


def _load(path):
    return torch.load(path, weights_only=True)


def _log(folder):
    return "".join(path.read_text(encoding="utf-8") for path in sorted(folder.rglob("*.log")))


@pytest.mark.parametrize(("precision", "distilled"), [({}, False), (_BF16, True)], ids=["plain", "distilled in bf16"])
def test_a_run_that_ends_while_it_accumulates_goes_on_bit_for_bit(phantom, tmp_path, precision, distilled):
    """With averaged weights, connectors, and weights of losses that are measured at 0, 3 and 6."""
    changes = {"optim_wrapper.accumulative_counts": 3, "distilled": distilled, **precision, **_EMA}
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    _run(phantom, whole, **changes)
    _run(phantom, parts, ends_at=4, **changes)
    assert "gradients" in _load(parts / "iter_4.pth") and "gradients" not in _load(whole / "iter_6.pth")
    _run(phantom, parts, goes_on=4, **changes)
    one, other = (_load(folder / "iter_8.pth") for folder in (whole, parts))
    kept = {"state_dict", "ema_state_dict", "connectors", "distill_weights", "optimizer", "param_schedulers"}
    for key in kept & one.keys():
        assert _equal(one[key], other[key]), key
    if distilled:
        logged = one["message_hub"]["log_scalars"]["train/distill.weight.reviewkd"]["log"]
        assert [value / logged[2] for value in logged[:3]] == pytest.approx([1 / 3, 2 / 3, 1])
        (weights,) = one["distill_weights"].values()
        assert weights.item() not in (1, _load(whole / "iter_6.pth")["distill_weights"]["0.weights"].item())
    assert "is lost" not in _log(parts) and "are lost" not in _log(parts)


def test_what_is_lost_of_accumulated_gradients_is_told(phantom, tmp_path):
    changes = {"optim_wrapper.accumulative_counts": 3}
    _run(phantom, tmp_path, ends_at=4, **changes)
    checkpoint = _load(tmp_path / "iter_4.pth")
    _run(phantom, tmp_path, ends_at=4, goes_on=4, **{"optim_wrapper.accumulative_counts": 2})
    assert "accumulated are lost: optim_wrapper.accumulative_counts was 3, and is 2 now" in _log(tmp_path)
    gradients = checkpoint.pop("gradients")
    torch.save(checkpoint, tmp_path / "iter_4.pth")
    _run(phantom, tmp_path, ends_at=4, goes_on=4, **changes)
    assert "accumulated are lost: those of the last 1 batches are not in " in _log(tmp_path)
    for values in (gradients["values"][1:], [torch.ones(1), *gradients["values"][1:]], None):
        torch.save({**checkpoint, "gradients": {**gradients, "values": values}}, tmp_path / "iter_4.pth")
        with pytest.raises(UserError, match=r"iter_4\.pth: gradients\.values "):
            _run(phantom, tmp_path, goes_on=4, **changes)


@pytest.mark.parametrize("cache", ["auto", None])
def test_batches_of_another_size_go_on_after_the_slices_that_were_taken(phantom, tmp_path, cache):
    """Also when the size is changed again; a batch of the same size is not spoken of."""
    cache = {"train_dataloader.dataset.cache": cache}
    whole = sum(_run(phantom, tmp_path / "whole", **cache), [])
    run = tmp_path / "run"
    taken = sum(_run(phantom, run, ends_at=3, **cache), [])
    taken += sum(_run(phantom, run, ends_at=5, goes_on=3, **cache, **{"train_dataloader.batch_size": 3}), [])
    assert taken == whole[:12] and "batches had 2 slices in each of 1 process(es), and have 3 slices" in _log(run)
    assert "whatever their size" not in _log(tmp_path / "whole")
    assert _load(run / "iter_5.pth")["meta"]["batch"] == {"batch_size": 3, "processes": 1, "slices": 12}
    taken += sum(_run(phantom, run, ends_at=7, goes_on=5, **cache), [])
    assert taken == whole[:16]


def test_a_checkpoint_whose_progress_makes_no_sense(phantom, tmp_path):
    _run(phantom, tmp_path, ends_at=1)
    checkpoint = _load(tmp_path / "iter_1.pth")
    for batch, message in (
        ({"batch_size": 2, "processes": 1, "slices": -2}, "meta.batch is .*expected no number below 0"),
        ({"batch_size": "2"}, "meta.batch.batch_size is a str"),
        ([1], "meta.batch is a list"),
    ):
        checkpoint["meta"]["batch"] = batch
        torch.save(checkpoint, tmp_path / "iter_1.pth")
        with pytest.raises(UserError, match=message):
            _run(phantom, tmp_path, goes_on=1)
