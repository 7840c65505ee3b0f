"""Pictures of validation and test."""

from collections.abc import Sequence
from typing import Any

import mmseg.engine.hooks
import torch
from mmengine.structures import PixelData
from mmengine.visualization import Visualizer
from mmseg.structures import SegDataSample
from mmseg.utils import ade_palette
from torch import Tensor
from torch.nn.functional import interpolate

from medseg_kd.errors import UserError
from medseg_kd.registry import HOOKS


@HOOKS.register_module()
class SegVisualizationHook(mmseg.engine.hooks.SegVisualizationHook):
    """MMSegmentation's hook for whole cases: of each it draws the slice with most foreground, truth beside prediction.

    Arguments are the same: in a validation it draws the cases that ``interval`` falls on, in a test all of them. The
    grey values are those of the first channel, stretched over the slice.
    """

    def before_run(self, runner: Any) -> None:
        """Refuse a visualizer that draws nothing, and an interval that is none."""
        if self.interval < 1:
            raise UserError(f"SegVisualizationHook: interval is {self.interval}, expected at least 1")
        if self.draw and type(runner.visualizer).add_datasample is Visualizer.add_datasample:
            raise UserError(
                f"SegVisualizationHook would draw nothing: the visualizer is a {type(runner.visualizer).__name__}. Set "
                "visualizer=dict(type='SegLocalVisualizer') in the config"
            )

    def after_val_iter(self, runner: Any, batch_idx: int, data_batch: Any, outputs: Sequence[SegDataSample]) -> None:
        """Draw a case of the batch where the interval falls on it."""
        step = runner.iter + batch_idx
        if self.draw and step % self.interval == 0:
            self._draw(runner, f"val_{outputs[0].case_name}", data_batch["inputs"][0], outputs[0], step)

    def after_test_iter(self, runner: Any, batch_idx: int, data_batch: Any, outputs: Sequence[SegDataSample]) -> None:
        """Draw all cases of the batch."""
        for volume, sample in zip(data_batch["inputs"], outputs, strict=True) if self.draw else ():
            self._test_index += 1
            self._draw(runner, f"test_{sample.case_name}", volume, sample, self._test_index)

    def _draw(self, runner: Any, name: str, volume: Tensor, sample: SegDataSample, step: int) -> None:
        """Draw a slice of a case, whose slices are (S, C, H, W)."""
        shown = {key: sample.get(key).data for key in ("gt_sem_seg", "pred_sem_seg") if key in sample}
        areas = next(iter(shown.values())).ne(0).flatten(1).sum(1)
        position = int(areas.argmax()) if areas.any() else len(areas) // 2
        labels = {key: PixelData(data=data[position : position + 1]) for key, data in shown.items()}
        grey = volume[position, :1].float().cpu()
        grey = 255 * (grey - grey.min()) / (grey.max() - grey.min()).clamp(min=1e-6)
        grey = interpolate(grey[None], size=shown["pred_sem_seg"].shape[-2:], mode="bilinear")[0, 0]
        image = torch.stack([grey.byte()] * 3, -1).numpy()
        meta = dict(self._visualizer.dataset_meta)
        self._visualizer.dataset_meta = {"palette": ade_palette()[: len(meta["classes"])], **meta}
        options = dict(show=self.show, wait_time=self.wait_time, step=step)
        self._visualizer.add_datasample(name, image, data_sample=SegDataSample(**labels), **options)
