"""``medseg-kd COMMAND ...``: what the scripts do, from anywhere once the package is installed."""

import sys
from importlib import import_module

from medseg_kd import __version__
from medseg_kd.cli import Parser, run
from medseg_kd.errors import did_you_mean

# Name to what it does and the module of it; the modules are imported when they are called, which takes seconds.
COMMANDS = {
    "train": ("train a segmentor, or distil a teacher into a student", "train"),
    "test": ("score a trained segmentor on the test cases", "test"),
    "predict": ("masks of volumes and images, from a checkpoint alone", "predict"),
    "evaluate": ("score anybody's masks", "evaluate"),
    "export": ("write a model for other programs", "export"),
    "phantom": ("write a synthetic CT to try things on", "make_phantom"),
    "prepare-dataset": ("turn the download of a published data set into one to train on", "prepare_dataset"),
    "prepare-slices": ("turn NIfTI volumes into slices to train on", "prepare_slices"),
    "prepare-synapse": ("turn the raw BTCV volumes into the Synapse data set", "prepare_synapse"),
    "check": ("find what is wrong with a data set", "check_dataset"),
    "doctor": ("say what works on this machine, and what mends the rest", "doctor"),
    "distill": ("write the config of a teacher-student pair", "distill"),
    "taps": ("list what a recorder can tap in a model", "list_taps"),
    "convert-weights": ("turn checkpoints of other code into ours", "convert_weights"),
    "sweep": ("try values of config keys", "sweep"),
    "compare-methods": ("does distillation help? all methods, several seeds", "compare_methods"),
    "print-config": ("a config as it is run, with all that it inherits", "print_config"),
    "analyze-logs": ("losses, scores and learning rates of runs as curves", "analyze_logs"),
    "compare-runs": ("tested runs side by side", "compare_runs"),
    "report": ("a page of a tested run, or of several, for the browser", "report"),
}


def main(argv: list[str] | None = None) -> None:
    """Calls the command that the first argument names with the others."""
    words = sys.argv[1:] if argv is None else argv
    listed = "\n".join(f"  {name:16} {what}" for name, (what, _) in COMMANDS.items())
    parser = Parser(
        prog="medseg-kd",
        usage="medseg-kd [-h] [--version] COMMAND ...",
        formatter_class=Parser.as_written,
        description="2D medical image segmentation and knowledge distillation.",
        epilog=f"commands (medseg-kd COMMAND --help says what each takes):\n{listed}",
    )
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument("command", metavar="COMMAND", help="one of those below")
    name = parser.parse_args(words[:1]).command
    if name not in COMMANDS:
        parser.error(f"there is no command {name!r}{did_you_mean(name, COMMANDS)}")
    Parser.command = f"medseg-kd {name}"
    import_module(f"medseg_kd.cli.{COMMANDS[name][1]}").main(words[1:])


def entry() -> None:
    """What the installed script calls."""
    run(main)
