"""What is installed on this machine and what works there, with what mends the rest."""

from medseg_kd.report.doctor import packages as packages  # in the order in which they are told

from medseg_kd.report.doctor import machine as machine  # isort: skip
from medseg_kd.report.doctor.results import BROKEN, Result, doctor_page, examine

__all__ = ["BROKEN", "Result", "doctor_page", "examine"]
