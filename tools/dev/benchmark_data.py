"""``tools/dev/benchmark.py data``: what reading and augmenting take, beside image files, SciPy and a training step."""

import argparse
import itertools
import random
import statistics
import tempfile
from pathlib import Path

import torch
from mmseg.datasets import BaseSegDataset
from mmseg.datasets.transforms import RandomRotFlip
from prettytable import PrettyTable

from held_training import held_run
from medseg_kd.configuration import load_run
from medseg_kd.datasets import SliceDataset
from medseg_kd.models.profiling import Step, device_name, interleaved_seconds, training_step
from mmseg_recipe import write_images

_READ, _STEP = "slice from image files, MMSegmentation", "step of the network"


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the subcommand."""
    parser.description = (
        "Reads slices with their labels from the cache, from the prepared files and, with MMSegmentation's transforms, "
        "from image files; augments a batch on the device and by MMSegmentation's transform; and steps the network. "
        "In turn, in one process; reading by itself, for a step leaves nothing in the processor's cache."
    )
    parser.add_argument("config")
    parser.add_argument("--data-root", default="data/phantom", help="slices in TransUNet's layout (%(default)s)")
    parser.add_argument("--batch", type=int, default=2, help="slices (2)")
    parser.add_argument("--repeat", type=int, default=15, help="counted runs of each, ten times that of reading (15)")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    cfg = load_run(arguments.config, data_root=arguments.data_root)
    cfg.train_dataloader.batch_size = batch = arguments.batch
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_images(arguments.data_root, folder / "images")
        runner = held_run(cfg, folder / "run", {})
        model, batches = runner.bare_model, iter(runner.train_loop.dataloader)
        loading = [dict(type="LoadImageFromFile", color_type="grayscale"), dict(type="LoadAnnotations")]
        files = BaseSegDataset(
            data_root=str(folder / "images"),
            data_prefix=dict(img_path="img", seg_map_path="ann"),
            img_suffix=".jpg",
            seg_map_suffix=".png",
            metainfo=dict(classes=[str(index) for index in range(model.num_classes)]),
            pipeline=loading,
        )
        slices = SliceDataset(arguments.data_root)
        given = model.data_preprocessor({**next(batches), "meta": None}, False)
        images, labels = given["inputs"], given["labels"]
        planes = [(image[0].cpu().numpy(), label.cpu().numpy()) for image, label in zip(images, labels, strict=True)]
        turning, order = RandomRotFlip(degree=20), itertools.cycle(random.sample(range(len(slices)), len(slices)))

        def each(read: object) -> Step:
            return lambda: [read(next(order)) for _ in range(batch)]  # type: ignore[operator]

        reading: dict[str, Step] = {
            "slice from the cache": lambda: next(batches),
            "slice from prepared files": each(slices.decode),
            _READ: each(files.__getitem__),
        }
        steps: dict[str, Step] = {
            "augmentation on the device": lambda: model.data_preprocessor.augmentation(images, labels),
            "augmentation, MMSegmentation": lambda: [
                turning(dict(img=image, gt_seg_map=label, seg_fields=["gt_seg_map"])) for image, label in planes
            ],
            _STEP: training_step(model.network, images),
        }
        seconds = {
            **interleaved_seconds(reading, 10 * arguments.repeat, device),
            **interleaved_seconds(steps, arguments.repeat, device),
        }
    print(
        f"{Path(arguments.config).stem}, {batch} slices of {'x'.join(map(str, images.shape[-2:]))}, "
        f"{device_name(device)}, PyTorch {torch.__version__}, median of {arguments.repeat} in turn, of reading ten "
        "times as many"
    )
    table = PrettyTable(["", "ms a slice", "of the files", "of the step"], align="r")
    table.align[""] = "l"
    median = {name: statistics.median(taken) for name, taken in seconds.items()}
    for name, taken in median.items():
        table.add_row([name, f"{1e3 * taken / batch:.3f}", *(f"{taken / median[each]:.3f}" for each in (_READ, _STEP))])
    print(table)
