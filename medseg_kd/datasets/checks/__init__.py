"""What is wrong with a whole data set: all of it, where a training stops at the first."""

from medseg_kd.datasets.checks.findings import Finding
from medseg_kd.datasets.checks.survey import Part, Survey, parts_of_folder, parts_of_loaders, survey

__all__ = ["Finding", "Part", "Survey", "parts_of_folder", "parts_of_loaders", "survey"]
