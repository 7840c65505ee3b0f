"""Losses, gradients and weights that are not finite."""

import json
import math
from types import SimpleNamespace

import pytest
import torch
from mmengine.hooks import CheckpointHook, Hook, LoggerHook, RuntimeInfoHook

from medseg_kd.distill import CWD, SingleTeacherDistill
from medseg_kd.engine import Runner
from medseg_kd.engine.finite import DivergedError, FiniteLossHook, not_finite
from medseg_kd.engine.info import TrainInfoHook
from medseg_kd.errors import UserError
from tests.engine.tiny import TinyNet, tiny_config
from tests.engine.two_processes import in_two_processes


class BrokenNet(TinyNet):
    """Gives NaN in some of its training steps, or breaks a weight."""

    def __init__(self, num_classes: int, steps: tuple[int, ...] = (), breaks_weight: bool = False) -> None:
        super().__init__(num_classes)
        self.steps, self.breaks_weight, self.step = steps, breaks_weight, 0
        self.register_buffer("idle", torch.zeros(1))

    def forward(self, x):
        logits = super().forward(x)
        if self.training:
            self.step += 1
            if self.breaks_weight:
                self.idle.fill_(math.inf)
            if self.step in self.steps:
                return logits * math.nan
        return logits


class WatchWeights(Hook):
    """Keeps the sum of the weights after each step."""

    def __init__(self) -> None:
        self.sums = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.sums.append(sum(float(each.sum()) for each in runner.bare_model.parameters()))


def _config(phantom, folder, skip=0, **network):
    cfg = tiny_config(phantom, folder, 4)
    cfg.model.network = dict(type=BrokenNet, **network)
    cfg.default_hooks.checkpoint.interval = 1
    cfg.custom_hooks = [dict(type=FiniteLossHook, skip=skip)] if skip else []
    return cfg


def test_a_loss_that_is_not_finite_ends_the_training_unsaved(phantom, tmp_path):
    with pytest.raises(DivergedError) as error:
        Runner.from_cfg(_config(phantom, tmp_path, steps=(3,))).train()
    message = str(error.value)
    assert message.startswith("iteration 3: the loss is not finite (loss nan")
    assert message.count(" slice ") == 2 and "case000" in message and "loss_ce nan" in message
    assert error.value.exit_code == 1
    assert sorted(path.name for path in tmp_path.glob("*.pth")) == ["iter_1.pth", "iter_2.pth"]
    assert not (tmp_path / ".lock").exists()


def test_a_learning_rate_that_breaks_all(phantom, tmp_path):
    cfg = _config(phantom, tmp_path)
    cfg.optim_wrapper.optimizer.lr = 1e38
    with pytest.raises(DivergedError, match="Go on from an earlier checkpoint"):
        Runner.from_cfg(cfg).train()
    for path in tmp_path.glob("*.pth"):
        assert not not_finite(torch.load(path, weights_only=True)["state_dict"])


def test_weights_that_are_not_finite_are_not_saved(phantom, tmp_path):
    with pytest.raises(DivergedError, match=r"iteration 1: 1 of 10 weights are .* \(network.idle\)"):
        Runner.from_cfg(_config(phantom, tmp_path, breaks_weight=True)).train()
    assert not list(tmp_path.glob("*.pth"))


class BreakGradient(Hook):
    """Makes the gradients of the second step NaN, but not its loss."""

    def before_train(self, runner):
        def spoil(*_):
            if runner.iter == 1:
                runner.bare_model.network.head[1].bias.grad.fill_(math.nan)

        runner.optim_wrapper.optimizer.register_step_pre_hook(spoil)


@pytest.mark.parametrize(("interval", "told"), [(1, r"iteration 2: 1 of 10 weights"), (3, "iteration 3: the loss")])
def test_gradients_alone_are_told_before_a_checkpoint_and_in_the_next_step(phantom, tmp_path, interval, told):
    cfg = _config(phantom, tmp_path)
    cfg.custom_hooks = [dict(type=BreakGradient)]
    cfg.default_hooks.checkpoint.interval = interval
    with pytest.raises(DivergedError, match=told):
        Runner.from_cfg(cfg).train()
    assert [path.name for path in tmp_path.glob("*.pth")] == ["iter_1.pth"] * (interval == 1)


def test_connectors_that_are_not_finite_are_not_saved(phantom, tmp_path):
    cfg = tiny_config(phantom, tmp_path, 1)
    student, distiller = cfg.model, dict(type=CWD, stage=0)
    cfg.model = dict(type=SingleTeacherDistill, architecture=student, teacher=student, distiller=distiller)
    runner = Runner.from_cfg(cfg)
    runner.train()
    next(runner.bare_model.distiller.connectors.parameters()).data.fill_(math.inf)
    with pytest.raises(DivergedError, match=r"1 of 11 weights are not finite \(stage\."):
        runner.save_checkpoint(str(tmp_path), "more.pth")
    assert not (tmp_path / "more.pth").exists()


class WatchNorm(Hook):
    """Works out the norm of the gradients of each update."""

    def __init__(self) -> None:
        self.norms = []

    def before_train(self, runner):
        def watch(*_):
            gradients = [each.grad.flatten() for each in runner.bare_model.parameters() if each.grad is not None]
            self.norms.append(float(torch.cat(gradients).norm()))

        runner.optim_wrapper.optimizer.register_step_pre_hook(watch)


@pytest.mark.parametrize(("counts", "lines"), [(1, {2: 1, 4: 3}), (3, {4: 1})])
def test_lines_of_the_log_have_the_norm_of_the_gradients(phantom, tmp_path, counts, lines):
    """That of the last update before the line."""
    cfg = _config(phantom, tmp_path)
    cfg.default_hooks.logger.interval = 2
    cfg.optim_wrapper.accumulative_counts = counts
    runner = Runner.from_cfg(cfg)
    runner.register_hook(watch := WatchNorm())
    runner.train()
    (scalars,) = tmp_path.rglob("scalars.json")
    told = [json.loads(line) for line in scalars.read_text(encoding="utf-8").splitlines()]
    found = {each["iter"]: each["grad_norm"] for each in told if "grad_norm" in each}
    assert found == {line: pytest.approx(watch.norms[update], rel=1e-3) for line, update in lines.items()}


def test_steps_are_left_out_where_that_is_allowed(phantom, tmp_path):
    runner = Runner.from_cfg(_config(phantom, tmp_path, skip=2, steps=(2, 4)))
    watch = WatchWeights()
    runner.register_hook(watch)
    runner.train()
    first, second, third, fourth = watch.sums
    assert math.isfinite(fourth) and first == second != third == fourth
    assert (tmp_path / "iter_4.pth").is_file()
    log = max(tmp_path.rglob("*.log")).read_text(encoding="utf-8")
    assert "iteration 2: the gradients are not finite, in a batch of case" in log and "left out, 2 of 2" in log


def test_more_steps_than_allowed(phantom, tmp_path):
    with pytest.raises(DivergedError, match="iteration 3: the gradients .* 1 such steps were left out before"):
        Runner.from_cfg(_config(phantom, tmp_path, skip=1, steps=(2, 3))).train()
    assert sorted(path.name for path in tmp_path.glob("*.pth")) == ["iter_1.pth", "iter_2.pth"]


def test_where_steps_cannot_be_left_out(phantom, tmp_path):
    """Of accumulated gradients it is not known which step broke them; the scaler of fp16 leaves out by itself."""
    cfg = _config(phantom, tmp_path, skip=1)
    cfg.optim_wrapper.accumulative_counts = 2
    with pytest.raises(UserError, match="skip is for one optimizer with accumulative_counts=1"):
        Runner.from_cfg(cfg).train()
    wrapper = SimpleNamespace(scaler=SimpleNamespace(is_enabled=lambda: True), step=None)
    FiniteLossHook(skip=1).before_train(SimpleNamespace(optim_wrapper=wrapper))
    assert wrapper.step is None


class Scalar(torch.Tensor):
    """A number that says it lies on a GPU."""

    is_cuda = True


@pytest.mark.parametrize(("logging", "saving", "told"), [(4, -1, 4), (4, 3, 3), (50, -1, 6)])
def test_losses_on_a_gpu_are_looked_at_where_they_are_read(monkeypatch, logging, saving, told):
    """At a line of the log, before a checkpoint, at the end: never after the checkpoint."""
    hooks = [FiniteLossHook(), LoggerHook(interval=logging), CheckpointHook(interval=saving, by_epoch=False)]
    info = TrainInfoHook()
    runner = SimpleNamespace(hooks=hooks, iter=0, max_iters=6, train_dataloader=range(100))
    runner.message_hub = SimpleNamespace(update_scalar=lambda *_: None)
    monkeypatch.setattr(RuntimeInfoHook, "before_train", lambda *_: None)
    info.before_train(runner)
    for runner.iter in range(6):
        loss = torch.tensor(math.nan if runner.iter == 1 else 1.0).as_subclass(Scalar)
        batch = {"meta": [{"case_name": f"case{runner.iter}", "slice_index": 7}]}
        try:
            info.after_train_iter(runner, runner.iter, batch, {"loss": loss})
        except DivergedError as error:
            assert str(error).startswith("iteration 2: the loss is not finite (loss nan), in a batch of case1 slice 7.")
            break
    assert runner.iter + 1 == told


class BreakOne(Hook):
    """Breaks the gradients of one of two processes."""

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        runner.bare_model.network.steps = (2,) if torch.distributed.get_rank() == 1 else ()


def _break_one(phantom, folder):
    cfg = _config(phantom, folder, skip=1)
    cfg.launcher = "pytorch"
    cfg.custom_hooks += [dict(type=BreakOne)]
    model = Runner.from_cfg(cfg).train()
    return [float(each.sum()) for each in model.parameters()]


def test_two_processes_leave_out_the_same_step(phantom, tmp_path):
    one, other = in_two_processes(_break_one, phantom, tmp_path)
    assert one == other and all(map(math.isfinite, one))
