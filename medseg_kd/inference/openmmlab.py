"""MMSegmentation's two functions of inference, by their names."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from medseg_kd.configuration import network_name, read_config
from medseg_kd.errors import UserError
from medseg_kd.inference.predictor import Predictor


def init_model(
    config: str | Path | Config | None, checkpoint: str | Path, device: str | torch.device | None = None
) -> Predictor:
    """``mmseg.apis.init_model``; gives what :func:`inference_model` takes, whose ``model`` is the segmentor.

    Args:
        config: None, or that of the run: its network is compared. All settings are those that the checkpoint holds.
        checkpoint: Of ``train.py``, or a run folder.
        device: None takes a GPU where there is one.

    Raises:
        UserError: See :meth:`Predictor.from_checkpoint`; the config is of another network.
    """
    predictor = Predictor.from_checkpoint(checkpoint, device)
    own = type(getattr(predictor.model, "network", predictor.model)).__name__
    if config is not None:
        wanted = network_name(config if isinstance(config, Config) else read_config(config)).rpartition(".")[2]
        if wanted != own:
            raise UserError(f"{checkpoint} holds a {own}, the config describes a {wanted}: one belongs to another run")
    return predictor


def inference_model(
    model: Predictor, img: str | Path | np.ndarray | list[str | Path | np.ndarray]
) -> SegDataSample | list[SegDataSample]:
    """``mmseg.apis.inference_model``: a sample, or one for each of a list.

    ``pred_sem_seg.data`` is uint8, (S, H, W) on the grid of the input; S is 1 for a slice. For what an input may be see
    :meth:`Predictor.__call__`: values are those of the file, an array has its channels first.
    """
    if isinstance(img, list):
        return [_sample(model(each)) for each in img]
    return _sample(model(img))


def _sample(found: Any) -> SegDataSample:
    """A prediction as MMSegmentation has it."""
    labels = torch.from_numpy(found.labels)
    sample = SegDataSample(metainfo={"ori_shape": tuple(labels.shape[-2:])})
    sample.pred_sem_seg = PixelData(data=labels if labels.ndim == 3 else labels[None])
    return sample
