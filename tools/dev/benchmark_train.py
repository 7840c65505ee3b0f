"""``tools/dev/benchmark.py train``: whole training steps beside a plain MMSegmentation recipe and a bare loop."""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mmengine.runner
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.runner import IterBasedTrainLoop
from mmseg.models.data_preprocessor import SegDataPreProcessor
from mmseg.models.losses import CrossEntropyLoss, DiceLoss
from PIL import Image
from prettytable import PrettyTable
from torch import Tensor, nn

from medseg_kd.configuration import load_run, segmentor_of
from medseg_kd.datasets import SliceDataset
from medseg_kd.engine import NativeAmpOptimWrapper, Runner
from medseg_kd.models.precision import native_dtype
from medseg_kd.models.profiling import device_name
from medseg_kd.models.resizing import resize
from medseg_kd.registry import MODELS

BARE, RECIPE, OURS, NO_GRAPH = (
    "bare loop, tensors on the device",
    "MMSegmentation's recipe",
    "train.py",
    "train.py, no graph",
)
_NEVER = 10**7
_CONFIGS = ("configs/fcn/fcn_r18_d8_40k_synapse.py", "configs/unet/unet_r18v1c_d8_40k_synapse.py")


class HeldLoop(IterBasedTrainLoop):
    """A training loop that stops where it would start; :meth:`advance` goes on."""

    def run(self) -> nn.Module:
        """Prepare to train."""
        self.runner.call_hook("before_train")
        self.runner.call_hook("before_train_epoch")
        self.runner.model.train()
        return self.runner.model

    def advance(self, iterations: int) -> None:
        """Train for some iterations."""
        for _ in range(iterations):
            self.run_iter(next(self.dataloader_iterator))


class PlainSegmentor(BaseModel):
    """A network with MMSegmentation's preprocessing and losses.

    Args:
        network: Maps (N, 1, H, W) to logits, or to a tuple of them, the main ones first.
        weights: Of its outputs.
    """

    def __init__(self, network: nn.Module, weights: tuple[float, ...]) -> None:
        super().__init__(SegDataPreProcessor(mean=[0.0], std=[255.0], size_divisor=1))
        self.network, self.weights = network, weights
        self.losses = nn.ModuleList([CrossEntropyLoss(), DiceLoss()])

    def forward(self, inputs: Tensor, data_samples: Any = None, mode: str = "tensor") -> Any:
        """Losses in mode ``loss``, else logits."""
        outputs = self.network(inputs)
        if mode != "loss":
            return outputs
        label = torch.stack([sample.gt_sem_seg.data[0] for sample in data_samples]).long()
        outputs = outputs if isinstance(outputs, (tuple, list)) else (outputs,)
        return {
            f"aux{index}.{loss.loss_name}" if index else loss.loss_name: weight
            * loss(resize(logits, label.shape[-2:]), label)
            for index, (logits, weight) in enumerate(zip(outputs, self.weights, strict=True))
            for loss in self.losses
        }


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the subcommand."""
    parser.description = (
        "Training iterations of train.py (data, augmentation, hooks and log included) beside a plain recipe of "
        "MMSegmentation (image files, its transforms, two workers, float32) and a bare loop over tensors on the device "
        "(same network, losses, precision and optimizer, nothing else). Blocks of iterations are taken in turn."
    )
    parser.add_argument("--configs", nargs="+", default=_CONFIGS, metavar="CONFIG", help="(%(default)s)")
    parser.add_argument("--data-root", default="data/phantom", help="slices in TransUNet's layout (%(default)s)")
    parser.add_argument("--size", type=int, nargs=2, default=None, metavar=("H", "W"), help="resize on the device")
    parser.add_argument("--batch", type=int, default=2, help="slices a batch (2)")
    parser.add_argument("--iterations", type=int, default=40, help="in a block (40)")
    parser.add_argument("--blocks", type=int, default=3, help="of which the median counts (3)")
    parser.add_argument("--float32", action="store_true", help="train.py without --amp")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="overrides of the configs")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    precision = "float32" if arguments.float32 else str(native_dtype(device)).removeprefix("torch.")
    print(
        f"batches of {arguments.batch}, train.py and bare loop in {precision}, {device_name(device)}, PyTorch "
        f"{torch.__version__}, {arguments.blocks} blocks of {arguments.iterations} iterations",
        flush=True,
    )
    for path in arguments.configs:
        name = Path(path).stem
        table = PrettyTable([name, "ms", "images/s", "Mpx/s", "over recipe", "of bare loop", "peak MB"], align="r")
        table.align[name] = "l"
        with tempfile.TemporaryDirectory() as folder:
            table.add_rows(_rows(path, arguments, Path(folder), device))
        print(table, flush=True)


def _rows(path: str, arguments: argparse.Namespace, folder: Path, device: torch.device) -> list[list[str]]:
    """A row for each kind of step."""
    options = dict(pair.split("=", 1) for pair in arguments.set)
    cfg = load_run(path, options, data_root=arguments.data_root)
    cfg.train_dataloader.batch_size = arguments.batch
    if arguments.size:
        cfg.model.data_preprocessor = {**cfg.model.get("data_preprocessor", {}), "size": tuple(arguments.size)}
    if not arguments.float32:
        cfg.optim_wrapper.type = NativeAmpOptimWrapper
    advance: dict[str, Callable[[int], None]] = {}
    memory = {}
    kinds = (OURS, NO_GRAPH) if device.type == "cuda" else (OURS,)
    for kind in kinds:
        held = held_run(cfg, folder / str(len(advance)), {"cuda_graph": "auto" if kind == OURS else False})
        advance[kind] = held.train_loop.advance
    shape = next(iter(held.train_loop.dataloader))["inputs"].shape
    size = tuple(arguments.size or shape[-2:])
    advance[BARE] = _bare(held.cfg, (arguments.batch, shape[1], *size), device)
    if "architecture" not in cfg.model:
        advance[RECIPE] = _recipe(held.cfg, folder, arguments.batch)
    seconds: dict[str, list[float]] = {name: [] for name in advance}
    for turn in range(-1, arguments.blocks):
        for name, run in advance.items():
            if device.type == "cuda":
                torch.cuda.synchronize()
                torch.cuda.reset_peak_memory_stats()
            start = time.perf_counter()
            run(arguments.iterations)
            if device.type == "cuda":
                torch.cuda.synchronize()
                memory[name] = torch.cuda.max_memory_allocated() >> 20
            if turn >= 0:
                seconds[name].append((time.perf_counter() - start) / arguments.iterations)
    median = {name: statistics.median(taken) for name, taken in seconds.items()}
    pixels = arguments.batch * size[0] * size[1]
    return [
        [
            name,
            f"{1e3 * taken:.2f}",
            f"{arguments.batch / taken:.1f}",
            f"{pixels / taken / 1e6:.1f}",
            f"{median[RECIPE] / taken:.2f}" if RECIPE in median else "",
            f"{median[BARE] / taken:.2f}",
            str(memory.get(name, "")),
        ]
        for name, taken in median.items()
    ]


def held_run(cfg: Config, folder: Path, changes: dict[str, Any]) -> Runner:
    """A run that is ready to train."""
    cfg = cfg.copy()
    cfg.merge_from_dict(changes)
    cfg.train_cfg = dict(type=HeldLoop, max_iters=_NEVER, val_interval=_NEVER)
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    cfg.test_cfg = cfg.test_dataloader = cfg.test_evaluator = None
    cfg.default_hooks.checkpoint.interval = _NEVER
    cfg.work_dir, cfg.experiment_name = str(folder), str(folder)
    if "teacher_ckpt" in cfg.model:
        cfg.model.teacher_ckpt = None
    runner = Runner.from_cfg(cfg)
    runner.train()
    return runner


def _bare(cfg: Config, shape: tuple[int, ...], device: torch.device) -> Callable[[int], None]:
    """Steps of the same model on random tensors."""
    model = MODELS.build(cfg.model).to(device).train()
    model.init_weights()
    x, y = torch.rand(shape, device=device), torch.randint(8, (shape[0], *shape[-2:]), device=device, dtype=torch.uint8)
    optimizer = cfg.optim_wrapper.optimizer
    built = optimizer.type(model.parameters(), **{key: value for key, value in optimizer.items() if key != "type"})
    dtype = native_dtype(device) if cfg.optim_wrapper.type is NativeAmpOptimWrapper else torch.float32

    def run(iterations: int) -> None:
        for _ in range(iterations):
            with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
                losses: dict[str, Tensor] = model(x, y, mode="loss")
            torch.stack(list(losses.values())).sum().backward()
            built.step()
            built.zero_grad()

    return run


def _recipe(cfg: Config, folder: Path, batch: int) -> Callable[[int], None]:
    """The same network trained by MMEngine and MMSegmentation alone, from image files."""
    dataset = SliceDataset(cfg.train_dataloader.dataset.data_root)
    for index in range(len(dataset)):
        image, label, _ = dataset.decode(index)
        for kind, plane, ending in (("img", (image[0] * 255).round().astype("uint8"), "jpg"), ("ann", label, "png")):
            (folder / kind).mkdir(exist_ok=True)
            Image.fromarray(plane).save(folder / kind / f"{index:05}.{ending}")
    segmentor = MODELS.build(segmentor_of(cfg.model))
    pipeline = [
        dict(type="LoadImageFromFile", color_type="grayscale"),
        dict(type="LoadAnnotations"),
        dict(type="RandomRotFlip", rotate_prob=0.5, flip_prob=0.5, degree=20),
        dict(type="PackSegInputs"),
    ]
    runner = mmengine.runner.Runner(
        PlainSegmentor(segmentor.network, segmentor.output_weights),
        work_dir=str(folder / "recipe"),
        train_dataloader=dict(
            batch_size=batch,
            num_workers=2,
            persistent_workers=True,
            pin_memory=torch.cuda.is_available(),
            sampler=dict(type="InfiniteSampler"),
            dataset=dict(
                type="mmseg.BaseSegDataset",
                data_root=str(folder),
                data_prefix=dict(img_path="img", seg_map_path="ann"),
                img_suffix=".jpg",
                seg_map_suffix=".png",
                metainfo=dict(classes=[str(index) for index in range(segmentor.num_classes)]),
                pipeline=pipeline,
            ),
        ),
        train_cfg=dict(type=HeldLoop, max_iters=_NEVER, val_interval=_NEVER),
        optim_wrapper=dict(type="OptimWrapper", optimizer=dict(type="SGD", lr=0.01, momentum=0.9, weight_decay=5e-4)),
        param_scheduler=[dict(type="PolyLR", power=0.9, eta_min=1e-4, begin=0, end=40000, by_epoch=False)],
        default_hooks=dict(
            logger=dict(type="LoggerHook", interval=50), checkpoint=dict(type="CheckpointHook", interval=_NEVER)
        ),
        log_processor=dict(by_epoch=False),
        env_cfg=dict(cudnn_benchmark=True),
        default_scope="mmseg",
        experiment_name=str(folder / "recipe"),
    )
    runner.train()
    return runner.train_loop.advance
