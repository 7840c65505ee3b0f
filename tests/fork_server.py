"""Fresh processes without the seconds of an import each: they are forked from one that has imported everything."""

import multiprocessing

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        "medseg_kd.cli.train",
        "medseg_kd.cli.test",
        "medseg_kd.datasets",
        "medseg_kd.distill",
        "medseg_kd.evaluation",
        "medseg_kd.inference",
        "medseg_kd.models",
        "monai.networks.nets",
    ]
)
