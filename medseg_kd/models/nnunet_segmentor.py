"""A trained nnU-Net as a segmentor: its results folder read safely, its folds averaged."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.logging import print_log
from mmengine.model import BaseModel
from torch import Tensor

from medseg_kd.errors import UserError
from medseg_kd.models.base import SegmentorBase
from medseg_kd.models.checkpoint import load_weights
from medseg_kd.models.networks.nnunet import NnUNet
from medseg_kd.models.nnunet_folds import Folds
from medseg_kd.models.preprocessor import SlicePreprocessor
from medseg_kd.models.region_segmentor import decode_regions
from medseg_kd.models.weights.foreign import read_foreign, weights_of
from medseg_kd.nnunet_files import described, read_plan
from medseg_kd.registry import MODELS

FILES = ("plans.json", "dataset.json")
_TRAINER = "nnUNetTrainer"


@MODELS.register_module(name=["NnUNetSegmentor", "NnUNetTeacher"])
class NnUNetSegmentor(SegmentorBase, BaseModel):
    """A network that nnU-Net v2 trained, from its results folder; nothing in that is run as code.

    It predicts cases as nnU-Net does, see :class:`~medseg_kd.inference.NnUNetCasePredictor`, and gives logits of slices
    to a distillation. It is not trained further: ``network=dict(type='NnUNet', plans=...)`` is.

    Args:
        results: ``.../nnUNetTrainer__nnUNetPlans__2d``, with plans.json, dataset.json and fold_<n>/.
        folds: Whose logits are averaged: numbers, or ``all`` for the fold that was trained on all cases; where there is
            no fold_all, and for None, all numbered folds that are there.
        checkpoint: File of each fold.
        orientation: How the files lay that it was trained on, such as ``RAS``; None: as those of the data set.
        slice_batch: Slices that are predicted together; None chooses.

    Attributes:
        results: Its results folder.
        plan: What its plans say.
        mirror_axes: Axes that its training mirrored along, 0 the rows.
        weights_source: Where its weights come from.
        sees_raw: The images of the data set have the values of their files, of which a case is scaled as nnU-Net does.

    Raises:
        UserError: A file is missing, damaged or would run code, or they do not belong together.
    """

    brings_weights = True

    def __init__(
        self,
        results: str,
        folds: str | Sequence[int] | None = None,
        checkpoint: str = "checkpoint_final.pth",
        orientation: str | None = None,
        slice_batch: int | None = None,
    ) -> None:
        super().__init__(SlicePreprocessor())
        self.results = folder = Path(results)
        check_results(folder)
        about = described(folder / FILES[1])
        named = zip(about.get("regions", {}).items(), about.get("regions_class_order", ()), strict=False)
        self.regions = tuple((name, tuple(sorted({*members})), value) for (name, members), value in named)
        self.num_classes = len(about["labels"].keys() - {"ignore"})
        self.num_outputs = len(self.regions) or self.num_classes
        self.in_channels = len(about["channel_names"])
        chosen = find_folds(folder, folds, checkpoint)
        read = {path: _read(path) for path in chosen}
        told = {path: (each["trainer_name"], each["configuration"]) for path, each in read.items()}
        if len({*told.values()}) > 1:
            named_folds = ", ".join(f"{path.parent.name} {' '.join(each)}" for path, each in told.items())
            raise UserError(f"{folder}: its folds are of several trainings: {named_folds}. Name those of one in folds")
        trainer, configuration = next(iter(told.values()))
        self.plan = read_plan(folder / FILES[0], configuration)
        self.plan.check_2d()
        if len(self.plan.channels) != self.in_channels:
            raise UserError(
                f"{folder}: plans.json scales {len(self.plan.channels)} channel(s), dataset.json names "
                f"{', '.join(map(str, about['channel_names'].values()))}: they belong to different trainings"
            )
        if not trainer.startswith(_TRAINER):
            print_log(
                f"{folder} was trained by {trainer}: its network is taken to be that of the plans, as {_TRAINER}'s is",
                "current",
                logging.WARNING,
            )
        networks = []
        for path, each in read.items():
            network = NnUNet(self.num_outputs, self.in_channels, architecture=self.plan.architecture)
            weights = {f"unet.{key.removeprefix('_orig_mod.')}": value for key, value in each["weights"].items()}
            load_weights(network, weights, str(path))
            networks.append(network)
        self.network = Folds(networks)
        self.mirror_axes = next(iter(read.values()))["mirror_axes"]
        self.weights_source = f"{folder}, {', '.join(path.parent.name for path in chosen)}"
        self.orientation = "RAS" if self.plan.reorients else orientation
        self.sees_raw = False
        self.predictor = {"type": "medseg_kd.NnUNetCasePredictor", "slice_batch": slice_batch}
        self.requires_grad_(False).eval()

    @property
    def feature_info(self) -> list[dict[str, Any]]:
        """Stages of the encoder, see :class:`Segmentor`; asking for those of several folds is an error."""
        if not self.network.stages:
            raise UserError(
                f"the logits of several folds are averaged ({self.weights_source}), and each has its own stages, "
                "which AT, ReviewKD and CWD's stage compare. Name one, as in folds=(0,), or choose KD, DKD, DIST, CWD "
                "on logits"
            )
        return [{**stage, "module": f"network.stages.{index}"} for index, stage in enumerate(self.network.feature_info)]

    def init_weights(self) -> None:
        """Nothing is left to initialise."""

    def logits(self, inputs: Tensor) -> Tensor:
        """See :meth:`SegmentorBase.logits`."""
        return self.network(inputs)

    def loss(self, inputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """It is not trained."""
        raise UserError(
            "NnUNetSegmentor has the weights of nnU-Net's training and is not trained further. To train its "
            "architecture, write model=dict(type='Segmentor', network=dict(type='NnUNet', plans='.../plans.json'), ...)"
        )

    def decode(self, logits: Tensor) -> Tensor:
        """Classes (N, H, W) uint8 of logits (N, outputs, H, W)."""
        return decode_regions(logits, self.regions) if self.regions else super().decode(logits)

    def predict_volume(
        self, volume: Tensor, size: tuple[int, int] | None = None, about: Mapping[str, Any] | None = None
    ) -> Tensor:
        """See :meth:`SegmentorBase.predict_volume`; ``about`` tells the case's ``spacing`` and ``geometry``."""
        return self.case_predictor()(self, volume, size, about=about)


def check_results(folder: Path) -> None:
    """Refuse a folder that is none of nnU-Net's results."""
    if missing := [name for name in FILES if not (folder / name).is_file()]:
        raise UserError(
            f"{folder} holds no {' and no '.join(missing)}: expected the results of a nnU-Net training, as in "
            "nnUNet_results/Dataset017_Abdomen/nnUNetTrainer__nnUNetPlans__2d"
        )


def find_folds(folder: Path, folds: Any, checkpoint: str) -> list[Path]:
    """The checkpoints of the folds that are wanted, see :class:`NnUNetSegmentor`."""
    there = {path.parent.name.removeprefix("fold_"): path for path in sorted(folder.glob(f"fold_*/{checkpoint}"))}
    numbered = [name for name in there if name.isdecimal()]
    if folds is None or (folds == "all" and "all" not in there):
        wanted = numbered or [name for name in there if name == "all"]
    else:
        wanted = [str(each) for each in ([folds] if isinstance(folds, (str, int)) else folds)]
    if not wanted or (missing := [name for name in wanted if name not in there]):
        lack = f"no fold_{', no fold_'.join(missing)} with" if wanted else "no fold with"
        raise UserError(
            f"{folder} holds {lack} {checkpoint}; folds that have one: {', '.join(there) or 'none'}. Name some of "
            "those in folds, wait for the training to end, or name another checkpoint, such as checkpoint_best.pth"
        )
    return [there[name] for name in wanted]


def _read(path: Path) -> dict[str, Any]:
    """Weights of a checkpoint of nnU-Net, and what it says of them."""
    content = read_foreign(path)["state_dict"]
    told = content.get("init_args")
    configuration = told.get("configuration") if isinstance(told, Mapping) else None
    trainer, axes = content.get("trainer_name"), content.get("inference_allowed_mirroring_axes")
    if not isinstance(content.get("network_weights"), Mapping) or not isinstance(configuration, str):
        raise UserError(f"{path} is no checkpoint of nnU-Net v2: expected network_weights, trainer_name and init_args")
    return {
        "weights": weights_of({"network_weights": content["network_weights"]}, str(path)),
        "configuration": configuration,
        "trainer_name": str(trainer),
        "mirror_axes": tuple(axis for axis in axes or () if axis in (0, 1)),
    }
