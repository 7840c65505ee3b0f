"""nnU-Net v2 on the head-and-neck data, small enough for a CPU: the teacher of ``docs/results_wide.md``.

nnU-Net is no dependency of this project. In an environment of its own, and with a folder for its files::

    pip install nnunetv2
    python tools/dev/nnunet_headneck.py raw --data data/headneck_ct --work nnunet
    python tools/dev/nnunet_headneck.py plan --work nnunet
    python tools/dev/nnunet_headneck.py train --work nnunet
    python tools/dev/nnunet_headneck.py predict --work nnunet --images Ts
    python tools/dev/nnunet_headneck.py predict --work nnunet --images Tr --probabilities

Planning, preprocessing, training and prediction are nnU-Net's own. What is set here for the CPU: 16 to 128 features in
place of 32 to 512, 8 slices in a batch, short epochs, bfloat16 where nnU-Net takes float16 on a GPU, one process that
augments, and no mirroring. The images are coarser in plane (4 to 5 mm) than between slices, so that nnU-Net would slice
them from front to back; ``suppress_transpose``, an argument of its planner, keeps the axial slices of a 2D student.
"""

import argparse
import json
import os
import resource
import shutil
import signal
import time
from collections.abc import Sequence
from multiprocessing.context import SpawnContext
from multiprocessing.pool import ThreadPool
from pathlib import Path
from unittest import mock

import SimpleITK as sitk  # noqa: N813
import torch

from medseg_kd.cli import run
from medseg_kd.errors import UserError

_DATASET = "Dataset501_HeadNeck"
_CLASSES = ("background", "brainstem", "spinal cord", "right parotid", "left parotid", "mandible")


def main(argv: Sequence[str] | None = None) -> None:
    """Run one step.

    Args:
        argv: the arguments; None takes the command line's.

    Raises:
        UserError: a folder is not as expected.
    """
    parser = argparse.ArgumentParser(prog="nnunet_headneck.py", description="nnU-Net v2 on the head-and-neck data.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    raw = commands.add_parser("raw", help="a nifti data folder to nnU-Net's raw format")
    raw.add_argument("--data", type=Path, required=True, help="folder with {train,test}/{images,labels}")
    raw.set_defaults(run=_raw)
    commands.add_parser("plan", help="fingerprint, plans and preprocessing").set_defaults(run=_plan)
    train = commands.add_parser("train", help="one fold")
    train.add_argument("--epochs", type=int, default=36, help="(%(default)s)")
    train.add_argument("--iterations", type=int, default=50, help="in an epoch (%(default)s)")
    train.add_argument("--adamw", type=float, metavar="LR", help="AdamW in place of nnU-Net's SGD, for short runs")
    train.add_argument("--seed", type=int, default=0, help="(%(default)s)")
    train.set_defaults(run=_train)
    predict = commands.add_parser("predict", help="masks by nnU-Net's own predictor, without mirroring")
    predict.add_argument("--images", choices=("Tr", "Ts"), default="Ts", help="imagesTr or imagesTs (%(default)s)")
    predict.add_argument("--checkpoint", default="checkpoint_final.pth", help="(%(default)s)")
    predict.add_argument("--probabilities", action="store_true", help="write npz and pkl beside each mask")
    predict.add_argument(
        "--part", type=int, nargs=2, default=(0, 1), metavar=("I", "N"), help="each Nth case from I on"
    )
    predict.set_defaults(run=_predict)
    differ = commands.add_parser("differ", help="voxels in which two folders of masks differ")
    differ.add_argument("--masks", type=Path, nargs=2, required=True, metavar="DIR", help="such as ours and nnU-Net's")
    differ.set_defaults(run=_differ)
    for command in (train, predict):
        command.add_argument("--fold", default="all", help="0 to 4, or all (%(default)s)")
        command.add_argument("--trainer", default="nnUNetTrainerNoMirroring", help="nnU-Net's class (%(default)s)")
    for command in commands.choices.values():
        command.add_argument("--work", type=Path, required=True, help="folder for nnU-Net's raw, preprocessed, results")
        command.add_argument("--threads", type=int, default=1, help="of PyTorch (%(default)s)")
    arguments = parser.parse_args(argv)
    work = arguments.work.resolve()
    folders = {f"nnUNet_{kind}": str(work / kind) for kind in ("raw", "preprocessed", "results")}
    os.environ.update(folders, nnUNet_def_n_proc="1", nnUNet_n_proc_DA="1")
    torch.set_num_threads(arguments.threads)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # by which nnU-Net's pools end their processes
    began, cpu = time.perf_counter(), _cpu_seconds()
    arguments.run(arguments, work)
    print(f"took {time.perf_counter() - began:.0f} s, {_cpu_seconds() - cpu:.0f} s of CPU time")


def _cpu_seconds() -> float:
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def _raw(arguments: argparse.Namespace, work: Path) -> None:
    folder = work / "raw" / _DATASET
    count = {}
    for split, suffix in (("train", "Tr"), ("test", "Ts")):
        images = sorted((arguments.data / split / "images").glob("*.nii.gz"))
        if not images:
            raise UserError(f"{arguments.data} has no {split}/images/*.nii.gz. Give --data the nifti data folder.")
        for kind in ("images", "labels"):
            (folder / f"{kind}{suffix}").mkdir(parents=True, exist_ok=True)
        for image in images:
            name = image.name.removesuffix(".nii.gz")
            shutil.copyfile(image, folder / f"images{suffix}" / f"{name}_0000.nii.gz")
            shutil.copyfile(image.parents[1] / "labels" / image.name, folder / f"labels{suffix}" / image.name)
        count[split] = len(images)
    told = dict(
        channel_names={"0": "CT"},
        labels={name: value for value, name in enumerate(_CLASSES)},
        numTraining=count["train"],
        file_ending=".nii.gz",
    )
    (folder / "dataset.json").write_text(json.dumps(told, indent=2))
    print(f"{folder}: {count['train']} training and {count['test']} test cases")


def _plan(arguments: argparse.Namespace, work: Path) -> None:
    from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
    from nnunetv2.experiment_planning.plan_and_preprocess_api import extract_fingerprints, preprocess

    class SmallPlanner(ExperimentPlanner):
        """nnU-Net's default planner with fewer features and smaller batches."""

        def __init__(self, *args, **kwargs):
            super().__init__(*args, suppress_transpose=True, **kwargs)
            self.UNet_base_num_features, self.UNet_max_features_2d = 16, 128

        def get_plans_for_configuration(self, *args, **kwargs):
            return {**super().get_plans_for_configuration(*args, **kwargs), "batch_size": 8}

    number = int(_DATASET[7:10])
    with mock.patch.object(SpawnContext, "Pool", lambda _, processes: ThreadPool(processes)):
        extract_fingerprints([number], num_processes=1, check_dataset_integrity=True)
        SmallPlanner(number).plan_experiment()
        preprocess([number], configurations=("2d",), num_processes=(1,))


def _train(arguments: argparse.Namespace, work: Path) -> None:
    from nnunetv2.run.run_training import get_trainer_from_args
    from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler

    torch.manual_seed(arguments.seed)
    fold = arguments.fold if arguments.fold == "all" else int(arguments.fold)
    trainer = get_trainer_from_args(_DATASET, "2d", fold, arguments.trainer, device=torch.device("cpu"))
    trainer.num_epochs, trainer.num_iterations_per_epoch = arguments.epochs, arguments.iterations
    trainer.num_val_iterations_per_epoch = 1
    trainer.initialize()
    if arguments.adamw:
        trainer.optimizer = torch.optim.AdamW(trainer.network.parameters(), arguments.adamw, weight_decay=1e-4)
        trainer.lr_scheduler = PolyLRScheduler(trainer.optimizer, arguments.adamw, arguments.epochs)
    forward = trainer.network.forward

    def in_bfloat16(x: torch.Tensor) -> list[torch.Tensor]:
        with torch.autocast("cpu", torch.bfloat16):
            outputs = forward(x)
        return [output.float() for output in outputs]

    trainer.network.forward = in_bfloat16
    trainer.run_training()


def _predict(arguments: argparse.Namespace, work: Path) -> None:
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    model = work / "results" / _DATASET / f"{arguments.trainer}__nnUNetPlans__2d"
    predictor = nnUNetPredictor(use_mirroring=False, device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(model), (arguments.fold,), arguments.checkpoint)
    out = work / "predictions" / f"{arguments.trainer}_{arguments.fold}_{arguments.images}"
    out.mkdir(parents=True, exist_ok=True)
    start, step = arguments.part
    images = sorted((work / "raw" / _DATASET / f"images{arguments.images}").glob("*.nii.gz"))[start::step]
    names = [str(out / image.name.removesuffix("_0000.nii.gz")) for image in images]
    predictor.predict_from_files_sequential([[str(image)] for image in images], names, arguments.probabilities)
    print(out)


def _differ(arguments: argparse.Namespace, work: Path) -> None:
    ours, theirs = (
        {path.name.removesuffix(".nii.gz").removesuffix("_0000"): path for path in folder.glob("*.nii.gz")}
        for folder in arguments.masks
    )
    if not ours or ours.keys() != theirs.keys():
        raise UserError(f"{len(ours)} and {len(theirs)} masks that do not have the same names: {arguments.masks}")
    counts = []
    for case, path in sorted(ours.items()):
        first, second = (sitk.GetArrayFromImage(sitk.ReadImage(str(each))) for each in (path, theirs[case]))
        if first.shape != second.shape:
            raise UserError(f"{case} is {first.shape} in one folder, {second.shape} in the other")
        counts.append((int((first != second).sum()), first.size, int((second > 0).sum())))
        print(f"{case}: {counts[-1][0]} of {counts[-1][1]} voxels differ, {counts[-1][2]} are labelled")
    different, voxels, labelled = map(sum, zip(*counts, strict=True))
    largest = max(count / size for count, size, _ in counts)
    print(
        f"{len(counts)} cases: {different} of {voxels} voxels differ ({labelled} labelled); largest share {largest:.2g}"
    )


if __name__ == "__main__":
    run(main)
