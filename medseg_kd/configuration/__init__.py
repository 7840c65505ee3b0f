"""Reading, changing, completing and checking configs: a library, the same for the commands and for a notebook."""

from medseg_kd.configuration.options import parse_options, set_options
from medseg_kd.configuration.pairs import write_pair
from medseg_kd.configuration.reading import build_model, network_name, read_config, segmentor_of
from medseg_kd.configuration.run import complete_run, find_teachers, load_run
from medseg_kd.configuration.run_folder import choose_checkpoint, resume, run_folder, set_test
from medseg_kd.configuration.types import type_errors_explained

__all__ = [
    "build_model",
    "choose_checkpoint",
    "complete_run",
    "find_teachers",
    "load_run",
    "network_name",
    "parse_options",
    "read_config",
    "resume",
    "run_folder",
    "segmentor_of",
    "set_options",
    "set_test",
    "type_errors_explained",
    "write_pair",
]
