"""``tools/dev/benchmark.py train``: whole training steps beside a plain MMSegmentation recipe and a bare loop."""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from mmengine.config import Config
from prettytable import PrettyTable
from torch import Tensor

from held_training import held_run
from measuring import timed_in_turn
from medseg_kd.configuration import load_run, segmentor_of
from medseg_kd.engine import NativeAmpOptimWrapper
from medseg_kd.models.precision import native_dtype
from medseg_kd.models.profiling import device_name
from medseg_kd.registry import MODELS
from mmseg_recipe import recipe, write_images

BARE, RECIPE, OURS, NO_GRAPH = (
    "bare loop, tensors on the device",
    "MMSegmentation's recipe",
    "train.py",
    "train.py, no graph",
)
_CONFIGS = ("configs/fcn/fcn_r18_d8_40k_synapse.py", "configs/unet/unet_r18v1c_d8_40k_synapse.py")


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
    kinds = (OURS, NO_GRAPH) if device.type == "cuda" else (OURS,)
    for kind in kinds:
        held = held_run(cfg, folder / str(len(advance)), {"cuda_graph": "auto" if kind == OURS else False})
        advance[kind] = held.train_loop.advance
    shape = next(iter(held.train_loop.dataloader))["inputs"].shape
    size = tuple(arguments.size or shape[-2:])
    advance[BARE] = _bare(held.cfg, (arguments.batch, shape[1], *size), device)
    if "architecture" not in cfg.model:
        write_images(held.cfg.train_dataloader.dataset.data_root, folder / "images")
        segmentor, augmentation = MODELS.build(segmentor_of(cfg.model)), dict(type="RandomRotFlip", degree=20)
        advance[RECIPE] = recipe(cfg, segmentor, folder / "images", folder / "recipe", augmentation).train_loop.advance
    median, memory = timed_in_turn(advance, arguments.iterations, arguments.blocks, device)
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
