"""``tools/dev/benchmark.py dice``: what a training reaches, and how soon, beside MMSegmentation's recipe."""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from prettytable import PrettyTable
from torch.utils.flop_counter import FlopCounterMode

from held_training import held_run
from medseg_kd.configuration import load_run, parse_options, segmentor_of
from medseg_kd.errors import UserError
from medseg_kd.evaluation import score_case
from medseg_kd.models.precision import native_dtype
from medseg_kd.models.profiling import device_name
from medseg_kd.registry import DATASETS, MODELS
from mmseg_recipe import LabelRotFlip, recipe, write_images

OURS, RECIPE = "train.py", "MMSegmentation's recipe"


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the subcommand."""
    parser.description = (
        "Trains a config from several seeds, by train.py and by a plain recipe of MMSegmentation (image files, its "
        "transforms in two workers, float32; the config's network, losses, optimizer and schedule), and scores the "
        "test cases every so many iterations: Dice at the end, and what it took to reach --target. Scoring is outside "
        "of the clock."
    )
    parser.add_argument("config")
    parser.add_argument("--data-root", required=True, metavar="DIR")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="(0 1 2)")
    parser.add_argument("--kinds", nargs="+", default=["ours", "recipe"], choices=["ours", "recipe"], help="(both)")
    parser.add_argument("--iterations", type=int, help="of each training (the config's)")
    parser.add_argument("--every", type=int, default=100, help="iterations from score to score (100)")
    parser.add_argument("--first", type=int, default=1, help="no score before this iteration (1)")
    parser.add_argument("--target", type=float, default=70.0, help="mean Dice in percent (70)")
    parser.add_argument("--rotate", type=float, default=0.0, help="augment: probability of a rotation (none)")
    parser.add_argument("--flip", type=float, default=0.0, help="augment: probability of a right angle and flip (none)")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="overrides of the config")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    augmentation = dict(type="medseg_kd.RandomRotateFlip", rotate_prob=arguments.rotate, flip_prob=arguments.flip)
    cfg = load_run(arguments.config, parse_options(arguments.set), data_root=arguments.data_root)
    cfg.model.data_preprocessor.augmentation = augmentation if arguments.rotate or arguments.flip else None
    if cfg.train_dataloader.batch_size is None or "architecture" in cfg.model:
        raise UserError(f"{arguments.config}: expected a config that trains one network, in batches of one size")
    iterations = arguments.iterations or cfg.train_cfg.max_iters
    for scheduler in cfg.param_scheduler:
        if scheduler.get("end") == cfg.train_cfg.max_iters:
            scheduler.end = iterations
    cases = DATASETS.build(cfg.test_dataloader.dataset)
    print(
        f"{arguments.config}: {iterations} iterations of {cfg.train_dataloader.batch_size} slices, seeds "
        f"{arguments.seeds}, {len(cases)} test cases; {device_name(device)}, train.py in "
        f"{str(native_dtype(device)).removeprefix('torch.')}, PyTorch {torch.__version__}",
        flush=True,
    )
    found: dict[str, list[Course]] = {}
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder, "images")
        if "recipe" in arguments.kinds:
            write_images(arguments.data_root, images)
        for seed in arguments.seeds:
            for name in arguments.kinds:
                place = Path(folder, f"{name}_{seed}")
                start = _ours if name == "ours" else _recipe
                segmentor, advance = start(cfg, seed, place, images, arguments)
                course = Course(segmentor, advance, cases, device)
                course.run(iterations, arguments.every, arguments.first)
                kind = OURS if name == "ours" else RECIPE
                found.setdefault(kind, []).append(course)
                print(f"seed {seed}, {kind}: {course.told(arguments.target)}", flush=True)
    print(_table(found, arguments.target))


class Course:
    """A training and its scores.

    Attributes:
        scores: (iterations, seconds, seconds of this process on the CPU, Dice in percent).
        tflop: Of one iteration of the network, forward and backward pass.
    """

    def __init__(self, segmentor: Any, advance: Callable[[int], None], cases: Any, device: torch.device) -> None:
        self.segmentor, self.advance, self.cases, self.device = segmentor, advance, cases, device
        self.scores: list[tuple[int, float, float, float]] = []
        self.tflop = 0.0

    def run(self, iterations: int, every: int, first: int) -> None:
        """Train and score; the first iteration is not timed, as operations are counted in it."""
        with FlopCounterMode(display=False) as counter:
            self.advance(1)
        self.tflop = counter.get_total_flops() / 1e12
        done, wall, cpu = 1, 0.0, 0.0
        while done < iterations:
            steps = min(every - done % every, iterations - done)
            wall_start, cpu_start = time.perf_counter(), time.process_time()
            self.advance(steps)
            if self.device.type == "cuda":
                torch.cuda.synchronize()
            wall, cpu = wall + time.perf_counter() - wall_start, cpu + time.process_time() - cpu_start
            done += steps
            if done >= first:
                self.scores.append((done, wall, cpu, self._dice()))

    def reached(self, target: float) -> tuple[int, float, float] | None:
        """Iterations, seconds and seconds on the CPU until a Dice was reached; None: it was not."""
        return next((each[:3] for each in self.scores if each[3] >= target), None)

    def told(self, target: float) -> str:
        """The course in one line."""
        steps = ", ".join(f"{done}: {dice:.1f}" for done, _, _, dice in self.scores)
        at = self.reached(target)
        when = f"{at[0]} iterations, {at[1]:.0f} s, {at[2]:.0f} s on the CPU" if at else "not reached"
        return f"Dice {steps}; {target:g}: {when}; {1e3 * self.tflop:.1f} GFLOP an iteration"

    @torch.no_grad()
    def _dice(self) -> float:
        """Mean Dice of the test cases in percent."""
        self.segmentor.eval()
        scores = []
        for index in range(len(self.cases)):
            case = self.cases[index]
            found = self.segmentor.predict_volume(case["inputs"], case["meta"]["ori_shape"]).numpy()
            scored = score_case(found, case["labels"].numpy(), self.segmentor.num_classes, metrics=("dice",))
            scores.append([float(organ["dice"]) for organ in scored.values()])
        self.segmentor.train()
        return 100 * float(np.mean(scores))


def _ours(cfg: Config, seed: int, folder: Path, images: Path, arguments: argparse.Namespace) -> tuple[Any, Any]:
    """The segmentor of a run of train.py, and what trains it."""
    runner = held_run(cfg, folder, {"randomness.seed": seed})
    return runner.bare_model, runner.train_loop.advance


def _recipe(cfg: Config, seed: int, folder: Path, images: Path, arguments: argparse.Namespace) -> tuple[Any, Any]:
    """The same of MMSegmentation's recipe."""
    segmentor = MODELS.build(segmentor_of(cfg.model))
    turning = dict(type=LabelRotFlip, rotate_prob=arguments.rotate, flip_prob=arguments.flip, degree=20)
    runner = recipe(cfg, segmentor, images, folder, turning, list(segmentor.losses), seed)
    segmentor.to(next(runner.model.parameters()).device)
    return segmentor, runner.train_loop.advance


def _table(found: dict[str, list[Course]], target: float) -> PrettyTable:
    """Means and deviations over the seeds."""
    table = PrettyTable(
        ["", "Dice at the end", f"{target:g} reached", "iterations", "TFLOP", "s", "s on the CPU"], align="r"
    )
    table.align[""] = "l"
    for name, courses in found.items():
        at = [reached for each in courses if (reached := each.reached(target))]
        tflop = [steps[0] * each.tflop for each in courses if (steps := each.reached(target))]
        columns = [[float(each[index]) for each in at] for index in range(3)]
        table.add_row(
            [
                name,
                _spread([each.scores[-1][3] for each in courses], 2),
                f"{len(at)} of {len(courses)}",
                _spread(columns[0], 0),
                _spread(tflop, 1),
                *(_spread(column, 0) for column in columns[1:]),
            ]
        )
    return table


def _spread(values: Sequence[float], digits: int) -> str:
    """Mean and deviation (n - 1)."""
    if not values:
        return "-"
    deviation = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.{digits}f}{deviation}"
