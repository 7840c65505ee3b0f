"""Predictions of the test loop as NIfTI files."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log

from ..errors import UserError
from ..mask_files import image_of, write_image
from ..registry import METRICS

DEFAULTS = {"spacing": "1 mm", "geometry": "origin (0, 0, 0) and LPS axes"}
"""What is written where a case does not have it, for the log."""


@METRICS.register_module()
class PredictionWriter(BaseMetric):
    """Write ``<output_dir>/<case>.nii.gz``, uint8, for each case; a metric that gives no values.

    A data sample is a case as :class:`~medseg_kd.evaluation.VolumeMetric` takes it. Where its meta information has a
    ``geometry`` (``origin``, ``direction``, ``orientation``), the file lies where the case does, its axes as in the
    file that the case was prepared from. Otherwise only the spacing is set, or 1 mm where that is not known either.

    Attributes:
        saving_seconds: what writing took in this process.
    """

    default_prefix = ""

    def __init__(self, output_dir: str) -> None:
        super().__init__()
        self.folder = Path(output_dir)
        self.saving_seconds = 0.0

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Write the predictions of a batch; a UserError where a geometry is none or a file cannot be written."""
        started = time.perf_counter()
        if not self.results:
            self.saving_seconds = 0.0
        for sample in data_samples:
            if any(result["case"] == str(sample["case_name"]) for result in self.results):
                raise UserError(f"two cases are named {sample['case_name']}, whose predictions would be one file")
            write_image(image_of(sample), self.folder / f"{sample['case_name']}.nii.gz")
            lacks = [key for key in DEFAULTS if sample.get(key) is None]
            self.results.append({"case": str(sample["case_name"]), "lacks": lacks})
        self.saving_seconds += time.perf_counter() - started

    def compute_metrics(self, results: list[dict[str, Any]]) -> dict[str, float]:
        """Say where the files are, and which of them lack what the data do not tell."""
        said = [f"{len(results)} prediction(s) are in {self.folder}"]
        for key, default in DEFAULTS.items():
            if cases := [result["case"] for result in results if key in result["lacks"]]:
                said.append(f"the data tell no {key} of {', '.join(cases)}: written with {default}")
        print_log("; ".join(said), logger="current")
        return {}
