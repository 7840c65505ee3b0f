"""``tools/print_config.py``: a config as it is run, with all that it inherits."""

from collections.abc import Sequence

from medseg_kd.cli import Parser
from medseg_kd.cli.run_arguments import add_run_arguments, load_config


def parser() -> Parser:
    """Its arguments."""
    made = Parser(
        "tools/print_config.py",
        "Checks a config and prints it with all that it inherits and what the command line changes.",
        ["configs/demo/unet_r18_phantom.py --cfg-options train_cfg.max_iters=2000"],
    )
    add_run_arguments(made)
    return made


def main(argv: Sequence[str] | None = None) -> None:
    """``print_config.py CONFIG``, with the options of ``train.py`` that change a config.

    Raises:
        UserError: The config is not what it should be.
    """
    print(load_config(parser().read(argv)).pretty_text, end="")
