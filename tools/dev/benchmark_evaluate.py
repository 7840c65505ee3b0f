"""Time, memory and agreement of the ways to score one case: this package, MedPy, MONAI and SciPy."""

import multiprocessing
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from prettytable import PrettyTable
from scipy import ndimage

from medseg_kd.errors import UserError
from medseg_kd.evaluation.case import score_case
from medseg_kd.evaluation.surface import foreground_box

OrganScores = dict[int, tuple[float, float]]
"""{class_index: (Dice as a fraction, HD95 in voxels)}"""


@dataclass(frozen=True)
class Measurement:
    """What one method took for one case.

    Attributes:
        seconds: the quickest of the repeats, wall time.
        memory: the most bytes that the process held beside the two volumes and the libraries; None where the system
            does not tell.
        scores: its scores.
    """

    seconds: float
    memory: int | None
    scores: OrganScores


def synthetic_case(shape: Sequence[int], organs: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A prediction and its truth: ellipsoids of organ size whose surfaces are waved, each in its own way.

    Args:
        shape: (S, H, W).
        organs: number of organs, labels 1..organs.
        seed: seed of positions, sizes and waves.

    Returns:
        Two (S, H, W) uint8 volumes.
    """
    rng = np.random.default_rng(seed)
    grid = np.ogrid[tuple(slice(n) for n in shape)]
    volumes, waves = [np.zeros(shape, np.uint8) for _ in range(2)], [_waves(shape, rng) for _ in range(2)]
    for organ in range(1, organs + 1):
        centre, radius = rng.uniform(0.25, 0.75, 3), rng.uniform(0.04, 0.18, 3)
        for volume, wave, shift in zip(volumes, waves, (0.01, 0.0), strict=True):
            axes = zip(grid, shape, centre, radius, strict=True)
            distance = sum(((g / n - c - shift) / r).astype(np.float32) ** 2 for g, n, c, r in axes)
            volume[distance + 0.15 * wave < 1] = organ
    return volumes[0], volumes[1]


def ours(pred: np.ndarray, truth: np.ndarray, organs: int) -> OrganScores:
    """Dice, Jaccard, HD95 and ASD by :func:`score_case`."""
    return _dice_and_hd95(score_case(pred, truth, organs + 1))


def ours_hd95(pred: np.ndarray, truth: np.ndarray, organs: int) -> OrganScores:
    """HD95 alone by :func:`score_case`."""
    return _dice_and_hd95(score_case(pred, truth, organs + 1, metrics=("hd95",)))


def medpy(pred: np.ndarray, truth: np.ndarray, organs: int) -> OrganScores:
    """``dc`` and ``hd95`` of MedPy, organ by organ on the whole volume."""
    try:
        from medpy.metric import binary
    except ImportError as error:
        raise UserError(f"the method medpy: {error}. pip install medpy") from error

    masks = ((k, pred == k, truth == k) for k in range(1, organs + 1))
    return {k: (binary.dc(p, t), float(binary.hd95(p, t))) for k, p, t in masks if p.any() and t.any()}


def monai(pred: np.ndarray, truth: np.ndarray, organs: int) -> OrganScores:
    """``compute_dice`` and ``compute_hausdorff_distance`` of MONAI, which takes the larger of two percentiles."""
    import torch
    from monai.metrics import compute_dice, compute_hausdorff_distance

    scores = {}
    for k in range(1, organs + 1):
        p, t = (torch.from_numpy(volume == k)[None, None] for volume in (pred, truth))
        if p.any() and t.any():
            distance = compute_hausdorff_distance(p, t, include_background=True, percentile=95)
            scores[k] = (float(compute_dice(p, t)), float(distance))
    return scores


def scipy(pred: np.ndarray, truth: np.ndarray, organs: int) -> OrganScores:
    """Erosion and distance transform of SciPy, as MedPy's but inside the box of the organ."""
    scores = {}
    for k in range(1, organs + 1):
        p, t = pred == k, truth == k
        if not (p.any() and t.any()):
            continue
        box = foreground_box(p, t)
        p, t = p[box], t[box]
        surfaces = [mask ^ ndimage.binary_erosion(mask) for mask in (p, t)]
        maps = [ndimage.distance_transform_edt(~surface) for surface in surfaces]
        pooled = np.concatenate([maps[1][surfaces[0]], maps[0][surfaces[1]]])
        total = np.count_nonzero(p) + np.count_nonzero(t)
        scores[k] = (float(2 * np.count_nonzero(p & t) / total), float(np.percentile(pooled, 95)))
    return scores


METHODS: dict[str, tuple[str, Callable[[np.ndarray, np.ndarray, int], OrganScores]]] = {
    "ours": ("Dice, Jaccard, HD95, ASD", ours),
    "ours_hd95": ("HD95", ours_hd95),
    "scipy": ("Dice, HD95 (cropped)", scipy),
    "monai": ("Dice, HD95 (its own)", monai),
    "medpy": ("Dice, HD95", medpy),
}


def measure(name: str, pred: Path, truth: Path, organs: int, repeat: int) -> Measurement:
    """Run one method in this process, which must have done nothing else yet.

    Args:
        name: one of ``METHODS``.
        pred: a file that ``numpy.load`` reads.
        truth: the same.
        organs: number of organs.
        repeat: how often to run.

    Returns:
        The quickest run.
    """
    method = METHODS[name][1]
    tiny = np.pad(np.ones((2, 2, 2), np.uint8), 2)
    method(tiny, tiny, 1)
    volumes = np.load(pred), np.load(truth)
    before = _memory("VmRSS") if _forget_peak() else None
    seconds = []
    for _ in range(repeat):
        start = time.perf_counter()
        scores = method(*volumes, organs)
        seconds.append(time.perf_counter() - start)
    memory = None if before is None else _memory("VmHWM") - before
    return Measurement(min(seconds), memory, scores)


def compare(shape: Sequence[int], organs: int, repeat: int, methods: Sequence[str], seed: int = 0) -> str:
    """Time the methods on one synthetic case, each in a process of its own, and print each result when it is there.

    Args:
        shape: (S, H, W).
        organs: number of organs.
        repeat: runs of each method but MedPy, which runs once.
        methods: names from ``METHODS``.
        seed: seed of the case.

    Returns:
        A table: seconds, seconds over ours, memory over that of the two label volumes, largest difference to MedPy in
        Dice (as a fraction) and HD95 (in voxels).
    """
    pred, truth = synthetic_case(shape, organs, seed)
    absent = [k for k in range(1, organs + 1) if not ((pred == k).any() and (truth == k).any())]
    if absent:
        raise UserError(f"shape={tuple(shape)} is too small for organs={organs}: {absent} hold no voxel. Ask for less.")
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder) / "pred.npy", Path(folder) / "truth.npy"
        np.save(files[0], pred)
        np.save(files[1], truth)
        for name in methods:
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as fresh:
                runs = 1 if name == "medpy" else repeat
                results[name] = fresh.submit(measure, name, *files, organs, runs).result()
            print(f"{name}: {results[name].seconds:.2f} s", flush=True)
    return _table(results, pred.nbytes + truth.nbytes)


def _table(results: dict[str, Measurement], size: int) -> str:
    text = PrettyTable(["method", "measures", "seconds", "times ours", "memory / labels", "Dice diff", "HD95 diff"])
    text.align = "r"
    text.align["method"] = text.align["measures"] = "l"
    for name, result in results.items():
        ratio = f"{result.seconds / results['ours'].seconds:.1f}" if "ours" in results else "-"
        memory = "-" if result.memory is None else f"{result.memory / size:.2f}"
        row = [name, METHODS[name][0], f"{result.seconds:.3f}", ratio, memory]
        text.add_row([*row, *_differences(result, results.get("medpy"))])
    return str(text)


def _differences(result: Measurement, reference: Measurement | None) -> list[str]:
    """Largest absolute differences of Dice and HD95 over the organs."""
    if reference is None:
        return ["-", "-"]
    pairs = [(result.scores[k], reference.scores[k]) for k in reference.scores]
    worst = [max(abs(a[i] - b[i]) for a, b in pairs) for i in (0, 1)]
    return ["-" if np.isnan(value) else f"{value:.1e}" for value in worst]


def _dice_and_hd95(scores: dict) -> OrganScores:
    return {k: (float(s.get("dice", np.nan)), float(s["hd95"])) for k, s in scores.items() if s["status"] == "ok"}


def _waves(shape: Sequence[int], rng: np.random.Generator) -> np.ndarray:
    """Smooth noise of unit variance, float32."""
    coarse = rng.standard_normal((max(shape[0] // 4, 1), *(max(n // 8, 1) for n in shape[1:])))
    smooth = ndimage.gaussian_filter(coarse, 2).astype(np.float32)
    factors = [n / c for n, c in zip(shape, coarse.shape, strict=True)]
    return ndimage.zoom(smooth / max(smooth.std(), 1e-6), factors, order=1)


def _forget_peak() -> bool:
    """Start to measure this process's peak memory anew; False where the system cannot (it is not Linux)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _memory(name: str) -> int:
    """This process's memory in bytes: ``VmRSS`` is what it holds, ``VmHWM`` the most it held."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))
