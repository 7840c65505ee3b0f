"""Two processes: parameters without gradient, shapes that change on loading, statistics that each gathers alone."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.hooks import EMAHook, Hook
from mmengine.model import is_model_wrapper
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from medseg_kd.cli import _part
from medseg_kd.distill import (
    AT,
    BPKD,
    CWD,
    DIST,
    DKD,
    IFVD,
    KD,
    LSKD,
    AttnFD,
    CBAMConnector,
    MultiTeacherDistill,
    ReviewKD,
    SingleTeacherDistill,
)
from medseg_kd.distill.connectors import ABF
from medseg_kd.engine import Runner
from medseg_kd.models import RandomRotateFlip, TransUNet
from medseg_kd.registry import MODELS
from tests.engine.tiny import TinyNet, tiny_config
from tests.engine.two_processes import in_two_processes

SMALL_TRANSUNET = dict(
    type=TransUNet,
    width=32,
    depths=(1, 1, 1),
    hidden_channels=8,
    num_layers=1,
    num_heads=2,
    mlp_channels=8,
    middle_channels=8,
    decoder_channels=(8, 8, 4, 4),
)


class Auxiliary(TinyNet):
    """Has an auxiliary output, and a layer that nothing uses."""

    def __init__(self, num_classes: int, idle: bool = False) -> None:
        super().__init__(num_classes)
        self.auxiliary_head = nn.Conv2d(4, num_classes, 1)
        self.idle = nn.Conv2d(1, 1, 1) if idle else None

    def forward(self, x):
        x = self.stem(x)
        return (self.head(x), self.auxiliary_head(x)) if self.training else self.head(x)


class Watch(Hook):
    """Keeps a norm's running mean as each iteration leaves it and as the validation sees it."""

    priority = "HIGHEST"

    def __init__(self) -> None:
        self.trained: list[list[float]] = []
        self.validated: list[float] = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.trained.append(runner.bare_model.network.stem[1].running_mean.tolist())

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.validated = runner.bare_model.network.stem[1].running_mean.tolist()


def _config(phantom, folder, **changes):
    cfg = tiny_config(phantom, folder, **changes)
    cfg.launcher = "pytorch"
    return cfg


def _weights(model):
    return {name: value.tolist() for name, value in model.named_parameters()}


def _distil_without_labels(phantom, folder):
    cfg = _config(phantom, folder)
    student = {**cfg.model, "network": dict(type=Auxiliary), "output_weights": (1, 0.4)}
    cfg.model = dict(
        type=SingleTeacherDistill,
        architecture=student,
        teacher=cfg.model,
        distiller=dict(type=KD),
        calculate_student_loss=False,
    )
    runner = Runner.from_cfg(cfg)
    untouched = runner.bare_model.student.network.auxiliary_head.weight.clone()
    runner.train()
    kept = torch.equal(untouched, runner.bare_model.student.network.auxiliary_head.weight)
    return runner.iter, kept, _weights(runner.bare_model.student.network.head)


def test_distillation_without_the_students_losses(phantom, tmp_path):
    one, other = in_two_processes(_distil_without_labels, phantom, tmp_path)
    assert one[0] == 4 and one == other


def _part_from_a_cycle():
    torch.distributed.init_process_group("gloo")
    kept = [DistributedDataParallel(nn.Linear(1, 1))]
    kept.append(kept)
    del kept
    _part()
    names = (task.joinpath("comm").read_text() for task in Path("/proc/self/task").iterdir())
    return [name for name in names if "gloo" in name]


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="no list of threads")
def test_no_thread_of_gloo_outlives_a_command():
    """One that needs Python after its end would abort the process."""
    assert in_two_processes(_part_from_a_cycle) == [[], []]


def _train_with_an_idle_layer(phantom, folder):
    cfg = _config(phantom, folder, find_unused_parameters=True)
    cfg.model.update(network=dict(type=Auxiliary, idle=True), output_weights=(1, 0.4))
    return Runner.from_cfg(cfg).train().module.network.head[1].weight.tolist()


def test_find_unused_parameters_holds_on_the_cpu(phantom, tmp_path):
    one, other = in_two_processes(_train_with_an_idle_layer, phantom, tmp_path)
    assert one == other


def _transunet(phantom, folder, grid, **changes):
    cfg = _config(phantom, folder, max_iters=2, **changes)
    cfg.model.network = dict(SMALL_TRANSUNET, img_size=16 * grid)
    return cfg


def _take_another_grid(phantom, folder, start):
    """Train from a checkpoint of another grid, go on from the run's own, validate and test it."""
    runner = Runner.from_cfg(_transunet(phantom, folder, 4, load_from=start))
    runner.train()
    assert is_model_wrapper(runner.model)
    trained = _weights(runner.bare_model)
    cfg = _transunet(phantom, folder, 4, load_from=f"{folder}/iter_2.pth", resume=True)
    cfg.train_cfg.update(max_iters=4, val_interval=4)
    resumed = Runner.from_cfg(cfg)
    resumed.train()
    cfg = _transunet(phantom, Path(folder, "test"), 4, load_from=f"{folder}/iter_4.pth")
    cfg.default_hooks.checkpoint.save_best = None
    scores = [Runner.from_cfg(cfg).val()["mDice"], Runner.from_cfg(cfg).test()["mDice"]]
    return trained, _weights(resumed.bare_model), resumed.iter, scores


def test_a_checkpoint_may_change_shapes(phantom, tmp_path):
    torch.manual_seed(3)
    grid = _transunet(phantom, tmp_path, 8)
    start = tmp_path / "start.pth"
    weights = MODELS.build(grid.model).state_dict()
    name = "network.vit.position_embedding.grid"
    weights[name].uniform_(-1, 1)
    torch.save({"state_dict": weights}, start)
    one, other = in_two_processes(_take_another_grid, phantom, str(tmp_path / "run"), str(start))
    assert one == other and one[2] == 4 and one[3][0] == one[3][1]
    trained = torch.tensor(one[0][name])
    assert trained.shape == weights[name].shape and 0 < (trained - weights[name]).abs().max() < 0.1
    saved = torch.load(tmp_path / "run/iter_2.pth", weights_only=True)["state_dict"]
    assert torch.equal(saved[name], trained)


def _watch_statistics(phantom, folder, interval, ema):
    cfg = _config(phantom, folder, max_iters=2)
    cfg.default_hooks.checkpoint.update(interval=interval, save_last=False)
    cfg.custom_hooks = [dict(type=EMAHook, momentum=0.3, **ema)] if ema is not None else []
    runner = Runner.from_cfg(cfg)
    watch = Watch()
    runner.register_hook(watch)
    runner.train()
    return watch.trained, watch.validated


def _saved_mean(path):
    return torch.load(path, weights_only=True)["state_dict"]["network.stem.1.running_mean"]


@pytest.mark.parametrize("ema", [None, {}])
def test_all_processes_validate_with_the_mean_of_their_statistics(phantom, tmp_path, ema):
    """A checkpoint of that validation holds it too; averaged weights come with it."""
    (trained, seen), (others, seen_there) = in_two_processes(_watch_statistics, phantom, tmp_path, 100, ema)
    assert trained[1] != others[1] and seen == seen_there
    np.testing.assert_allclose(seen, np.mean([trained[1], others[1]], axis=0), rtol=1e-6)
    np.testing.assert_allclose(_saved_mean(tmp_path / "best_mDice_iter_2.pth"), seen, rtol=1e-6)


@pytest.mark.parametrize("ema", [None, {}])
def test_a_checkpoint_holds_the_mean_of_the_statistics(phantom, tmp_path, ema):
    (trained, _), (others, _) = in_two_processes(_watch_statistics, phantom, tmp_path, 1, ema)
    expected = np.mean([trained[0], others[0]], axis=0)
    np.testing.assert_allclose(_saved_mean(tmp_path / "iter_1.pth"), expected, rtol=1e-6)


def test_statistics_that_are_averaged_over_iterations_are_so_over_processes(phantom, tmp_path):
    ema = {"update_buffers": True}
    (_, seen), (_, seen_there) = in_two_processes(_watch_statistics, phantom, tmp_path, 100, ema)
    assert seen == seen_there
    np.testing.assert_allclose(_saved_mean(tmp_path / "best_mDice_iter_2.pth"), seen, rtol=1e-6)


class Exact(nn.Module):
    """Float64, and no statistics of a batch: what a step does depends on its slices alone."""

    def __init__(self, num_classes: int, width: int = 4) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, width, 3, stride=2, padding=1), nn.GroupNorm(2, width), nn.ReLU())
        self.deep = nn.Sequential(nn.Conv2d(width, 2 * width, 3, stride=2, padding=1), nn.GroupNorm(2, 2 * width))
        self.head = nn.Conv2d(2 * width, num_classes, 1)
        self.feature_info = [
            {"module": "stem", "channels": width, "reduction": 2},
            {"module": "deep", "channels": 2 * width, "reduction": 4},
        ]
        self.double()

    def forward(self, x):
        return self.head(self.deep(self.stem(x.double())))


class PartlyUnknown(RandomRotateFlip):
    """Augments, and leaves of some slices few rows to learn from, of one none."""

    def forward(self, images, labels):
        images, labels = super().forward(images, labels)
        for label in labels:
            label[: (0, 0, 60, 64)[int(label.sum()) % 4]] = 255
        return images, labels


_SAMPLE_DICE = {"model.losses.1.batch_dice": False}
# Name of a run: its length, methods, changes.
_RUNS = {
    "sample dice": (20, (), _SAMPLE_DICE),
    "batch dice": (20, (), {}),
    "goes on": (6, (), _SAMPLE_DICE),
    "KD": (20, ({"type": KD, "loss_weight": {"type": "GradientShare", "share": 0.2, "every": 3}},), _SAMPLE_DICE),
    "accumulated": (6, (), {"optim_wrapper.accumulative_counts": 2, "model.losses.0.class_weight": [*range(1, 10)]}),
    "unknown pixels": (4, (KD, AT, DKD, DIST, CWD, ReviewKD, LSKD, AttnFD, IFVD, BPKD), {}),
}


def _train_exactly(phantom, folder, batch_size, launcher):
    """The weights that each run ends with."""
    weights = {}
    for name, (length, methods, changes) in _RUNS.items():
        cfg = tiny_config(phantom, f"{folder}/{launcher} {name}", length)
        cfg.launcher = launcher
        cfg.train_dataloader.batch_size = batch_size
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
        cfg.default_hooks.checkpoint.update(interval=length // 2, save_best=None, save_last=False)
        cfg.model.network = dict(type=Exact)
        cfg.merge_from_dict(changes)
        if name == "goes on" and launcher == "pytorch":  # with what one process has begun
            cfg.update(resume=True, load_from=f"{folder}/none goes on/iter_3.pth")
        if name == "unknown pixels":
            cfg.model.data_preprocessor.augmentation.type = PartlyUnknown
        if methods:
            teacher = dict(model={**cfg.model, "network": dict(type=Exact, width=6)}, ckpt=f"{folder}/teacher.pth")
            distillers = [each if isinstance(each, dict) else dict(type=each) for each in methods]
            teachers = [{**teacher, "distiller": each} for each in distillers]
            cfg.model = dict(type=MultiTeacherDistill, architecture=cfg.model, teachers=teachers, combine="each")
        runner = Runner.from_cfg(cfg)
        for connector in runner.bare_model.modules():
            if isinstance(connector, ABF):
                connector.conv1[1] = connector.conv2[1] = nn.Identity()  # norms over the batch, one process's alone
            if isinstance(connector, CBAMConnector):
                connector.spatial[1] = connector.widen[1] = nn.Identity()
        runner.bare_model.double()
        runner.train()
        assert not getattr(runner.model, "find_unused_parameters", False)
        weights[name] = {key: value.detach().numpy() for key, value in runner.bare_model.named_parameters()}
    return weights


def test_two_processes_train_as_one_with_twice_the_batch(phantom, tmp_path):
    """The same slices, augmented alike, each pixel with the same weight; batches where one process has no label too."""
    torch.manual_seed(7)
    teacher = MODELS.build(
        {**tiny_config(phantom, tmp_path).model, "num_classes": 9, "network": dict(type=Exact, width=6)}
    )
    torch.save({"state_dict": teacher.state_dict()}, tmp_path / "teacher.pth")
    alone = _train_exactly(phantom, tmp_path, 4, "none")
    together = in_two_processes(_train_exactly, phantom, tmp_path, 2, "pytorch")
    for name, weights in alone.items():
        for key, value in weights.items():
            np.testing.assert_array_equal(together[0][name][key], together[1][name][key], f"{name}: {key}")
            np.testing.assert_allclose(together[0][name][key], value, rtol=0, atol=1e-9, err_msg=f"{name}: {key}")
    log = max((tmp_path / "pytorch goes on").rglob("*.log")).read_text(encoding="utf-8")
    assert "batches had 4 slices in each of 1 process(es), and have 2 slices in each of 2 process(es) now" in log
