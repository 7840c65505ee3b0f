"""``tools/dev/benchmark.py nnunet``: training steps of train.py beside those of nnU-Net's trainer."""

import argparse
import os
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from mmengine.config import Config
from prettytable import PrettyTable

from held_training import held_run
from measuring import timed_in_turn
from medseg_kd.configuration import complete_run, read_config
from medseg_kd.configuration.fold_and_plans import set_fold, set_plans
from medseg_kd.models.profiling import device_name

_CONFIG = "configs/unet/unet_r18v1c_d8_40k_synapse.py"
_THEIRS, _OURS = "nnU-Net's trainer", "train.py"


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the subcommand."""
    parser.description = (
        "Training iterations of train.py beside those of nnU-Net's own 2D trainer and its loader, in turn: network, "
        "slice size and batch size of its plans, its recipe of augmentation, deep supervision, cross-entropy and Dice "
        "in both. Needs nnunetv2, and what `nnunet_headneck.py raw` and `plan` write, or the same of other data."
    )
    parser.add_argument("--work", type=Path, required=True, help="folder with nnU-Net's raw and preprocessed")
    parser.add_argument("--dataset", default="Dataset501_HeadNeck", help="(%(default)s)")
    parser.add_argument("--iterations", type=int, default=20, help="in a block (%(default)s)")
    parser.add_argument("--blocks", type=int, default=5, help="of which the median counts (%(default)s)")
    parser.add_argument("--amp", action="store_true", help="train.py in the native precision")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    work, device = arguments.work.resolve(), torch.device("cuda" if torch.cuda.is_available() else "cpu")
    processes = max((os.cpu_count() or 1) - 1, 1)
    folders = {f"nnUNet_{kind}": str(work / kind) for kind in ("raw", "preprocessed")}
    with tempfile.TemporaryDirectory() as folder:
        os.environ.update(folders, nnUNet_results=str(Path(folder, "results")), nnUNet_n_proc_DA=str(processes))
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # by which its pools end their processes
        from nnunetv2.run.run_training import get_trainer_from_args  # which reads the variables

        trainer = get_trainer_from_args(arguments.dataset, "2d", "all", "nnUNetTrainer", device=device)
        trainer.on_train_start()
        plan = trainer.configuration_manager
        held = held_run(_ours(work, arguments.dataset, plan.batch_size, arguments.amp), Path(folder, "ours"), {})
        shape = tuple(next(iter(held.train_loop.dataloader))["inputs"].shape)
        patch = (plan.batch_size, trainer.num_input_channels, *plan.patch_size)
        print(
            f"{arguments.dataset}: nnU-Net's batches are {patch}, those of train.py {shape}; nnU-Net augments in "
            f"{processes} processes; {device_name(device)}, PyTorch {torch.__version__}, "
            f"{arguments.blocks} blocks of {arguments.iterations} iterations",
            flush=True,
        )

        def theirs(iterations: int) -> None:
            for _ in range(iterations):
                trainer.train_step(next(trainer.dataloader_train))

        advance: dict[str, Callable[[int], None]] = {_THEIRS: theirs, _OURS: held.train_loop.advance}
        median, _ = timed_in_turn(advance, arguments.iterations, arguments.blocks, device)
        trainer.on_train_end()
    table = PrettyTable(["", "ms", "images/s", "Mpx/s", "over nnU-Net"], align="r")
    table.align[""] = "l"
    for (name, seconds), size in zip(median.items(), (patch, shape), strict=True):
        pixels = size[0] * size[2] * size[3] / seconds / 1e6
        row = [f"{1e3 * seconds:.1f}", f"{size[0] / seconds:.1f}", f"{pixels:.2f}", f"{median[_THEIRS] / seconds:.2f}"]
        table.add_row([name, *row])
    print(table)


def _ours(work: Path, dataset: str, batch: int, amp: bool) -> Config:
    """A run of the network of the plans, on the raw data, with nnU-Net's augmentation."""
    plans = str(work / "preprocessed" / dataset / "nnUNetPlans.json")
    cfg = read_config(_CONFIG)
    cfg.merge_from_dict(
        {
            "model.network": dict(_delete_=True, type="NnUNet", plans=plans),
            "model.data_preprocessor.augmentation": dict(_delete_=True, type="NnUNetAugmentation"),
            "train_dataloader.batch_size": batch,
            **({"optim_wrapper.type": "NativeAmpOptimWrapper"} if amp else {}),
        }
    )
    cfg.model.update(num_classes=None, output_weights=None)
    for name in ("train", "val", "test"):
        given = cfg[f"{name}_dataloader"]["dataset"]
        given.clear()
        given.update(data_root=str(work / "raw" / dataset))
    cfg.train_dataloader.dataset.update(type="medseg_kd.SliceDataset", split="train", cache="auto")
    for name in ("val", "test"):
        cfg[f"{name}_dataloader"].dataset.update(type="medseg_kd.CaseDataset", split="test")
    set_fold(cfg, "all", keep_folder=True, keep_teacher=True)
    set_plans(cfg, plans)
    complete_run(cfg)
    return cfg
