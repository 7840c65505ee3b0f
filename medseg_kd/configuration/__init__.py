"""Reading, changing, completing and checking configs: a library, the same for the commands and for a notebook."""

from medseg_kd.configuration.checking import check_config
from medseg_kd.configuration.explaining import type_errors_explained
from medseg_kd.configuration.extension import extend
from medseg_kd.configuration.options import parse_options, set_options
from medseg_kd.configuration.pairs import write_pair
from medseg_kd.configuration.reading import build_model, network_name, read_config, segmentor_of, settle_imports
from medseg_kd.configuration.run import complete_run, find_teachers, give_soft_labels, load_run, native_precision
from medseg_kd.configuration.run_folder import choose_checkpoint, resume, run_folder, set_test

__all__ = [
    "build_model",
    "check_config",
    "choose_checkpoint",
    "complete_run",
    "extend",
    "find_teachers",
    "give_soft_labels",
    "load_run",
    "native_precision",
    "network_name",
    "parse_options",
    "read_config",
    "resume",
    "run_folder",
    "segmentor_of",
    "set_options",
    "set_test",
    "settle_imports",
    "type_errors_explained",
    "write_pair",
]
