"""Pictures of validation and test."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mmseg.engine.hooks
import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.structures import PixelData
from mmengine.visualization import Visualizer
from mmseg.structures import SegDataSample
from mmseg.utils import ade_palette
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn.functional import interpolate

from medseg_kd.errors import UserError
from medseg_kd.evaluation.label_tables import colour
from medseg_kd.files import whole_file
from medseg_kd.registry import HOOKS


class LateVisualizer(Visualizer):
    """MMEngine's visualizer, which imports Matplotlib when an image is drawn on: most runs log numbers alone."""

    ax_save: Any

    def _initialize_fig(self, fig_cfg: Any) -> tuple:
        return None, SimpleNamespace(get_dpi=lambda: None), None

    def set_image(self, image: np.ndarray) -> None:
        """See MMEngine's class."""
        if self.ax_save is None:
            self.fig_save_canvas, self.fig_save, self.ax_save = super()._initialize_fig(self.fig_save_cfg)
            self.dpi = self.fig_save.get_dpi()
        super().set_image(image)


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
        image = _grey(_planes(volume)[position, 0], shown["pred_sem_seg"].shape[-2:])
        meta = dict(self._visualizer.dataset_meta)
        self._visualizer.dataset_meta = {"palette": ade_palette()[: len(meta["classes"])], **meta}
        options = dict(show=self.show, wait_time=self.wait_time, step=step)
        self._visualizer.add_datasample(name, image, data_sample=SegDataSample(**labels), **options)


@HOOKS.register_module()
class WorstSlicesHook(Hook):
    """Draws the slices of each test case with the most wrong pixels, truth beside prediction, organs outlined.

    Args:
        folder: Gets ``<case>_slice<number>.png``; the colours are those of ``labels.ctbl`` beside predictions.
        slices: How many of a case.
    """

    _SIDE = 512
    """Pixels that smaller slices are enlarged to, about."""

    def __init__(self, folder: str | Path, slices: int = 3) -> None:
        self.folder, self.slices = Path(folder), slices

    def after_test_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Sequence[SegDataSample] | None = None
    ) -> None:
        """Draw the cases of a batch; those without a label by the most foreground."""
        for volume, sample in zip(data_batch["inputs"], outputs or (), strict=True):
            volume, found = _planes(volume), sample.pred_sem_seg.data.cpu().numpy()
            shown = {"prediction": found}
            wrong = found != 0
            if "gt_sem_seg" in sample:
                truth = sample.gt_sem_seg.data.cpu().numpy()
                ignored = truth == getattr(runner.bare_model, "ignore_index", 255)
                wrong = (found != truth) & ~ignored
                shown = {"truth": np.where(ignored, 0, truth), **shown}
            count = wrong.sum((1, 2))
            for position in np.argsort(-count, kind="stable")[: self.slices]:
                grey = _grey(volume[position, volume.shape[1] // 2], found.shape[1:])
                words = f"{sample.case_name}, slice {position}: "
                words += f"{count[position]} pixels {'wrong' if 'truth' in shown else 'found'}; {' | '.join(shown)}"
                drawn = self._draw(grey, {name: labels[position] for name, labels in shown.items()}, words)
                path = self.folder / f"{sample.case_name}_slice{position:03d}.png"
                with whole_file(path) as draft:
                    drawn.save(draft)

    def _draw(self, grey: np.ndarray, shown: Mapping[str, np.ndarray], words: str) -> Image.Image:
        """A slice (H, W, 3) once for each label map (H, W), whose outlines lie on it, side by side."""
        scale = max(1, self._SIDE // max(grey.shape[:2]))
        panels = []
        for labels in shown.values():
            panel, large = (each.repeat(scale, 0).repeat(scale, 1) for each in (grey, labels))
            edge = outlines(large)
            palette = np.array([colour(value) for value in range(256)], np.uint8)
            panel[edge] = palette[large[edge]]
            panels.append(panel)
        image = Image.fromarray(np.concatenate(panels, axis=1))
        ImageDraw.Draw(image).text((4, 4), words, fill="white", stroke_fill="black", stroke_width=1)
        return image


def outlines(labels: np.ndarray) -> np.ndarray:
    """Which pixels of labels (H, W) are organs that have another label beside them."""
    padded = np.pad(labels, 1, mode="edge")
    around = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    return (labels > 0) & np.any([labels != each for each in around], axis=0)


def _planes(volume: Tensor) -> Tensor:
    """A case (S, C, H, W); a single image (C, H, W) is one of a slice."""
    return volume if volume.ndim == 4 else volume[None]


def _grey(plane: Tensor, size: Sequence[int]) -> np.ndarray:
    """A plane (h, w) at the size (H, W), stretched to 0 to 255: (H, W, 3) uint8."""
    plane = plane.float().cpu()
    plane = 255 * (plane - plane.min()) / (plane.max() - plane.min()).clamp(min=1e-6)
    plane = interpolate(plane[None, None], size=tuple(size), mode="bilinear")[0, 0]
    return torch.stack([plane.byte()] * 3, -1).numpy()
