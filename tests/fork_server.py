"""Fresh processes without the seconds of an import each: they are forked from one that has imported everything."""

import multiprocessing
import os
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).parents[1]
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    [
        "medseg_kd.cli.commands",
        "medseg_kd.configuration",
        "medseg_kd.datasets",
        "medseg_kd.distill",
        "medseg_kd.engine",
        "medseg_kd.evaluation",
        "medseg_kd.experiments.methods",
        "medseg_kd.inference.case",
        "medseg_kd.inference.export",
        "medseg_kd.models",
        "medseg_kd.report.methods_page",
        "matplotlib.figure",
        "monai.networks.nets",
        "tests.torchvision_operators",
        "torch._dynamo",
    ]
)


def running_server() -> ForkServerContext:
    """The context whose processes are forked from this repository's imports, whatever the working directory is."""
    with mock.patch.dict(os.environ, {"PYTHONPATH": str(ROOT)}):
        forkserver.ensure_running()
    return _CONTEXT
