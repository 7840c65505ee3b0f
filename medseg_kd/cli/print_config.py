"""``tools/print_config.py``: a config as it is run, with all that it inherits."""

from medseg_kd.cli import Parser
from medseg_kd.cli.run_arguments import add_run_arguments, load_config, parse


def main(argv: list[str] | None = None) -> None:
    """``print_config.py CONFIG``, with the options of ``train.py`` that change a config.

    Raises:
        UserError: The config is not what it should be.
    """
    parser = Parser(
        prog="print_config.py",
        description="Checks a config and prints it with all that it inherits and what the command line changes.",
    )
    add_run_arguments(parser)
    print(load_config(parse(parser, argv)).pretty_text, end="")
