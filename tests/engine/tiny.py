"""A run small enough for a test: a network of two convolutions on the phantom."""

import itertools
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from torch import nn

_RUNS = itertools.count()
CONFIG = Path(__file__).parents[2] / "configs/unet/unet_r18v1c_d8_40k_synapse.py"


class TinyNet(nn.Module):
    """Two convolutions with dropout between them, so that a run depends on the random numbers drawn in training."""

    def __init__(self, num_classes: int, in_channels: int = 1, width: int = 4) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, width, 3, stride=2, padding=1), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.head = nn.Sequential(nn.Dropout2d(0.2), nn.Conv2d(width, num_classes, 1))
        self.feature_info = [{"module": "stem", "channels": width, "reduction": 2}]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.stem(x))


def tiny_config(phantom: Path, work_dir: Path, max_iters: int = 4, **changes: Any) -> Config:
    """The seed's recipe with the tiny network on a phantom."""
    cfg = Config.fromfile(CONFIG)
    cfg.work_dir = str(work_dir)
    # MMEngine tells runs apart by name and second; two of these may start within one.
    cfg.experiment_name = f"tiny_{next(_RUNS)}"
    cfg.model.network = dict(type=TinyNet)
    cfg.model.output_weights = (1.0,)
    cfg.train_cfg.update(max_iters=max_iters, val_interval=max_iters)
    cfg.default_hooks.logger.interval = 1
    cfg.default_hooks.checkpoint.update(interval=2, max_keep_ckpts=-1)
    for name in ("train_dataloader", "val_dataloader", "test_dataloader"):
        cfg[name].update(num_workers=0, persistent_workers=False)
        cfg[name].dataset.data_root = str(phantom)
    cfg.merge_from_dict(changes)
    return cfg
