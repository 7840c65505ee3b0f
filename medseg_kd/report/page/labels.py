"""Labels of the test cases, kept on disk: which of them are the worst is known when all are scored."""

import hashlib
import shutil
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dist import barrier, get_rank, get_world_size, is_main_process
from mmengine.hooks import Hook

from medseg_kd.errors import in_short
from medseg_kd.files import whole_file

FOLDER = "report"
"""Beside the scores: what the page of a test is made from, the labels of all cases among it."""
RESERVED = 256 << 20
"""Bytes of the disk that are left free for the scores."""


@dataclass(frozen=True)
class CaseLabels:
    """What is kept of a case: ``prediction`` and ``truth`` (None without a label), (S, H, W) uint8.

    ``position`` is that of the case in its data set, ``spacing`` (z, y, x) in mm or None, ``ignored`` the value of the
    truth that is not scored.
    """

    prediction: np.ndarray
    truth: np.ndarray | None
    position: int
    spacing: tuple[float, ...] | None
    ignored: int


def file_of(folder: Path, case: str) -> Path:
    """The file of a case, whose name may hold what names of files may not."""
    return folder / f"{hashlib.sha256(case.encode('utf-8', 'surrogatepass')).hexdigest()[:24]}.npz"


def read_labels(folder: Path, case: str) -> CaseLabels | None:
    """The labels of a case; None where they were not kept."""
    try:
        with np.load(file_of(folder, case), allow_pickle=False) as found:
            return CaseLabels(
                found["prediction"],
                found.get("truth"),
                int(found["position"]),
                tuple(found["spacing"].tolist()) if "spacing" in found else None,
                int(found["ignored"]),
            )
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


class KeepLabelsHook(Hook):
    """Keeps the labels of each test case in a folder, and removes what an earlier test left there.

    Memory holds those of one case. Scores come first: where a file cannot be written, or the disk has less than
    ``RESERVED`` bytes left, the files of this process are removed and nothing more is kept.

    Attributes:
        failure: Why nothing more is kept; empty while all is well.
        test: Folder of the scores.
    """

    priority = "LOW"

    def __init__(self, test: Path) -> None:
        self.test, self.folder, self.failure = test, test / FOLDER / "labels", ""
        self._written: list[Path] = []
        self._earlier = 0

    @property
    def has_scores(self) -> bool:
        """Whether the test wrote its scores; without a label in any case it writes none."""
        return self._changed() != self._earlier

    def _changed(self) -> int:
        file = self.test / "metrics.json"
        return file.stat().st_mtime_ns if file.is_file() else 0

    def before_test(self, runner: Any) -> None:
        """Begin with an empty folder."""
        self._earlier = self._changed()
        if is_main_process():
            shutil.rmtree(self.folder.parent, ignore_errors=True)
        barrier()

    def after_test_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Sequence[Any] | None = None
    ) -> None:
        """Keep the cases of a batch."""
        for number, sample in enumerate(outputs or ()):
            if self.failure:
                return
            # As a sampler that does not shuffle hands the cases to the processes.
            position = (batch_idx * runner.test_dataloader.batch_size + number) * get_world_size() + get_rank()
            try:
                self._keep(sample, position, getattr(runner.bare_model, "ignore_index", 255))
            except Exception as error:  # whatever it is, the test goes on
                self.failure = in_short(error)
                for path in self._written:
                    path.unlink(missing_ok=True)

    def _keep(self, sample: Any, position: int, ignored: int) -> None:
        """Write the file of a case."""
        path = file_of(self.folder, str(sample.case_name))
        self.folder.mkdir(parents=True, exist_ok=True)
        if (free := shutil.disk_usage(self.folder).free) < RESERVED:
            raise OSError(f"the disk has {free >> 20} MB left, which are kept for the scores")
        spacing = getattr(sample, "spacing", None)
        kept = {
            "prediction": sample.pred_sem_seg.data.cpu().numpy().astype(np.uint8),
            **({"truth": sample.gt_sem_seg.data.cpu().numpy().astype(np.uint8)} if "gt_sem_seg" in sample else {}),
            **({} if spacing is None else {"spacing": np.array(spacing, float)}),
            "position": np.array(position),
            "ignored": np.array(ignored),
        }
        self._written.append(path)
        with whole_file(path) as draft, draft.open("wb") as file:
            np.savez_compressed(file, **kept)
