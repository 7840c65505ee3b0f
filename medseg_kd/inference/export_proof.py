"""Whether what was exported gives what the checkpoint gives: nothing is written before that."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from medseg_kd.datasets.intensities import RGB8, Stored
from medseg_kd.datasets.pixels import Raw
from medseg_kd.errors import UserError
from medseg_kd.inference.case import slice_logits
from medseg_kd.inference.cases import find_cases
from medseg_kd.inference.file_predictor import FilePredictor
from medseg_kd.inference.onnx_predictor import OnnxPredictor
from medseg_kd.inference.predictor import Predictor
from medseg_kd.inference.source import Source
from medseg_kd.progress import progress

LARGEST = 1e-4
"""Largest difference of the logits, of their range."""
DIFFERENT = 1e-5
"""Largest share of voxels of the given cases whose label differs."""
_SHAPES = ((1, 64, 96), (3, 64, 96), (1, 101, 122), (3, 101, 122))


def check_logits(checkpoint: Predictor, exported: FilePredictor) -> str:
    """Compare the logits of noise of two sizes, alone and three slices together; the line to print.

    Raises:
        UserError: They differ by more than ``LARGEST``.
    """
    worst, differing = 0.0, []
    for seed, shape in enumerate(_SHAPES):
        source = _noise(checkpoint, shape, seed)
        wanted, given = (_logits(predictor, source) for predictor in (checkpoint, exported))
        if given.shape != wanted.shape or not np.isfinite(given).all():
            raise UserError(
                f"the exported model gives logits {given.shape} that are not all numbers, or not {wanted.shape}"
            )
        worst = max(worst, float(np.abs(given - wanted).max() / max(np.ptp(wanted), 1e-30)))
        labels = [checkpoint.model.decode(torch.from_numpy(logits)) for logits in (wanted, given)]
        differing.append(float((labels[0] != labels[1]).double().mean()))
    line = (
        f"logits of noise: largest difference {worst:.1e} of their range, {np.mean(differing):.1e} of the labels differ"
    )
    if not worst <= LARGEST:
        raise UserError(
            f"the exported model is not the checkpoint's, and was not written: {line}, allowed {LARGEST:.0e}"
        )
    return line


def check_cases(checkpoint: Predictor, exported: FilePredictor, cases: Sequence[str | Path], exact: bool = True) -> str:
    """Compare the labels of files; the line to print.

    Args:
        exact: Refuse more than ``DIFFERENT``.

    Raises:
        UserError: They differ too much, or one of the two gives the same label everywhere.
    """
    classes = len(checkpoint.spec.classes)
    both = np.zeros((classes, classes), np.int64)
    for files in progress(find_cases(cases, len(checkpoint.spec.channels)), "comparing"):
        pair = [predictor(files).labels.astype(np.int64) for predictor in (checkpoint, exported)]
        both += np.bincount((pair[0] * classes + pair[1]).ravel(), minlength=classes**2).reshape(both.shape)
    for what, counts in (("checkpoint", both.sum(1)), ("exported model", both.sum(0))):
        if (counts > 0).sum() == 1:
            name = checkpoint.spec.classes[int(counts.argmax())]
            raise UserError(
                f"the {what} finds nothing but {name} in the given cases, so that they show nothing; nothing was "
                "written. Give others, or train the model first"
            )
    share = 1 - both.trace() / both.sum()
    there = both.sum(0)[1:] + both.sum(1)[1:] > 0
    dice = 2 * both.diagonal()[1:][there] / (both.sum(0) + both.sum(1))[1:][there]
    line = f"labels of the given cases: {share:.1e} of {both.sum()} voxels differ, Dice {dice.mean():.6f}"
    if exact and share > DIFFERENT:
        raise UserError(
            f"the exported model is not the checkpoint's, and was not written: {line}, allowed {DIFFERENT:.0e}"
        )
    return line


@torch.no_grad()
def _logits(predictor: FilePredictor, source: Source) -> np.ndarray:
    """Logits (S, classes, H, W) of a case."""
    if isinstance(predictor, OnnxPredictor):
        return predictor.run(source, "logits")
    assert isinstance(predictor, Predictor)
    return slice_logits(predictor.model, predictor.slices(source)).numpy()


def _noise(predictor: Predictor, shape: tuple[int, int, int], seed: int) -> Source:
    """A case of noise, (S, H, W), beyond what the intensity rules keep, too."""
    rules = [channel.intensity for channel in predictor.spec.channels]
    shift, scale = np.array([(rule if rule.fixed else Stored()).numbers(np.zeros(1)) for rule in rules]).T[2:]
    beyond = 0.0 if any(isinstance(rule, Stored) for rule in rules) else 0.1
    noise = np.random.default_rng(seed).uniform(-beyond, 1 + beyond, (len(rules), *shape))
    values = noise * scale.reshape(-1, 1, 1, 1) + shift.reshape(-1, 1, 1, 1)
    whole = any(isinstance(rule, RGB8) for rule in rules)
    return Source(Raw(values.clip(0, 255).astype(np.uint8) if whole else values.astype(np.float32)), 3, "noise")
