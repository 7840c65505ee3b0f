"""The seed of this project's recipe in plain MMEngine and MMSegmentation: what train.py is measured beside."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mmcv
import mmengine.runner
import numpy as np
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmseg.datasets.transforms import RandomRotFlip
from mmseg.models.data_preprocessor import SegDataPreProcessor
from mmseg.models.losses import CrossEntropyLoss, DiceLoss
from PIL import Image
from torch import Tensor, nn

from held_training import NEVER, HeldLoop
from medseg_kd.datasets import SliceDataset
from medseg_kd.models.resizing import resize


class PlainSegmentor(BaseModel):
    """A network with MMSegmentation's preprocessing.

    Args:
        network: Maps (N, 1, H, W) to logits, or to a tuple of them, the main ones first.
        weights: Of its outputs.
        losses: Called with logits and labels; MMSegmentation's cross-entropy and Dice where none are given.
    """

    def __init__(self, network: nn.Module, weights: tuple[float, ...], losses: Sequence[Any] = ()) -> None:
        super().__init__(SegDataPreProcessor(mean=[0.0], std=[255.0], size_divisor=1))
        self.network, self.weights = network, weights
        self.losses = nn.ModuleList(losses or [CrossEntropyLoss(), DiceLoss()])

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


class LabelRotFlip(RandomRotFlip):
    """MMSegmentation's, with labels rotated by nearest: its own blends them, so that class 5 gets a rim of 1 to 4."""

    def random_rotate(self, results: dict) -> dict:
        """Rotate an image and its label by one angle."""
        angle = np.random.uniform(*self.degree)
        results["img"] = mmcv.imrotate(results["img"], angle=angle)
        for key in results.get("seg_fields", []):
            results[key] = mmcv.imrotate(results[key], angle=angle, interpolation="nearest")
        return results


class PlainRunner(mmengine.runner.Runner):
    """MMEngine's, which says nothing of the machine: it fails there where torchvision does not fit PyTorch."""

    def _log_env(self, env_cfg: dict) -> None:
        pass


def write_images(data_root: str, folder: Path) -> None:
    """Write the training slices of a folder as MMSegmentation's image files, grey JPEG and palette PNG."""
    dataset = SliceDataset(data_root)
    for kind in ("img", "ann"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    for index in range(len(dataset)):
        image, label, _ = dataset.decode(index)
        Image.fromarray((image[0] * 255).round().astype("uint8")).save(folder / "img" / f"{index:05}.jpg")
        Image.fromarray(label).save(folder / "ann" / f"{index:05}.png")


def recipe(
    cfg: Config,
    segmentor: Any,
    images: Path,
    folder: Path,
    augmentation: Any,
    losses: Sequence[Any] = (),
    seed: int = 0,
) -> mmengine.runner.Runner:
    """A training by MMEngine and MMSegmentation alone, from image files, in float32, with two loading processes.

    Args:
        cfg: Its batch size, optimizer and schedule are taken.
        segmentor: Its network is trained, as are the weights of its outputs.
        images: What :func:`write_images` wrote.
        folder: For the run's files.
        augmentation: A transform of MMSegmentation.
        losses: See :class:`PlainSegmentor`.
        seed: Of the run.

    Returns:
        A runner whose loop is a :class:`HeldLoop`, ready to train.
    """
    runner = PlainRunner(
        PlainSegmentor(segmentor.network, segmentor.output_weights, losses),
        work_dir=str(folder),
        train_dataloader=dict(
            batch_size=cfg.train_dataloader.batch_size,
            num_workers=2,
            persistent_workers=True,
            pin_memory=torch.cuda.is_available(),
            sampler=dict(type="InfiniteSampler"),
            dataset=dict(
                type="mmseg.BaseSegDataset",
                data_root=str(images),
                data_prefix=dict(img_path="img", seg_map_path="ann"),
                img_suffix=".jpg",
                seg_map_suffix=".png",
                metainfo=dict(classes=[str(index) for index in range(segmentor.num_classes)]),
                pipeline=[
                    dict(type="LoadImageFromFile", color_type="grayscale"),
                    dict(type="LoadAnnotations"),
                    augmentation,
                    dict(type="PackSegInputs"),
                ],
            ),
        ),
        train_cfg=dict(type=HeldLoop, max_iters=NEVER, val_interval=NEVER),
        optim_wrapper=dict(type="OptimWrapper", optimizer=cfg.optim_wrapper.optimizer),
        param_scheduler=cfg.param_scheduler,
        default_hooks=dict(
            logger=dict(type="LoggerHook", interval=50), checkpoint=dict(type="CheckpointHook", interval=NEVER)
        ),
        log_processor=dict(by_epoch=False),
        env_cfg=dict(cudnn_benchmark=True),
        randomness=dict(seed=seed),
        default_scope="mmseg",
        experiment_name=str(folder),
    )
    runner.train()
    return runner
