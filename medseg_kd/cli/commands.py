# PYTHON_ARGCOMPLETE_OK
"""``medseg-kd COMMAND ...``: what the scripts do, from anywhere once the package is installed."""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from medseg_kd import __version__
from medseg_kd.cli import Parser, run
from medseg_kd.errors import did_you_mean

GROUPS = {
    "data": {
        "phantom": ("write a synthetic CT to try things on", "make_phantom"),
        "prepare dataset": ("turn the download of a published data set into one to train on", "prepare_dataset"),
        "prepare slices": ("turn NIfTI volumes into slices to train on", "prepare_slices"),
        "prepare synapse": ("turn the raw BTCV volumes into the Synapse data set", "prepare_synapse"),
        "check": ("find what is wrong with a data set", "check_dataset"),
        "browse": ("what a training will see of a data set, as a page", "browse_dataset"),
    },
    "training": {
        "train": ("train a segmentor, or distil a teacher into a student", "train"),
        "test": ("score a trained segmentor on the test cases", "test"),
        "distill": ("write the config of a teacher-student pair", "distill"),
        "sweep": ("try values of config keys", "sweep"),
        "compare methods": ("does distillation help? all methods, several seeds", "compare_methods"),
    },
    "results": {
        "predict": ("masks of volumes and images, from a checkpoint alone", "predict"),
        "evaluate": ("score anybody's masks", "evaluate"),
        "report": ("a page of a tested run, or of several, for the browser", "report"),
        "compare runs": ("tested runs side by side", "compare_runs"),
        "analyze-logs": ("losses, scores and learning rates of runs as curves", "analyze_logs"),
        "export": ("write a model for other programs", "export"),
    },
    "this machine, configs and weights": {
        "doctor": ("say what works on this machine, and what mends the rest", "doctor"),
        "print-config": ("a config as it is run, with all that it inherits", "print_config"),
        "taps": ("list what a recorder can tap in a model", "list_taps"),
        "convert-weights": ("turn checkpoints of other code into ours", "convert_weights"),
    },
}
"""Heading to commands, each a name to what it does and its module. A name of two words is one of a group."""
COMMANDS = {name: entry for commands in GROUPS.values() for name, entry in commands.items()}


def main(argv: Sequence[str] | None = None) -> None:
    """Calls the command that the first words name with the others."""
    words = sys.argv[1:] if argv is None else argv
    name = next((name for name in (" ".join(words[:2]), *words[:1]) if name in COMMANDS), None)
    if name is None:
        _tell(words)
    else:
        Parser.command = f"medseg-kd {name}"
        _module(name).main(words[len(name.split()) :])


def entry() -> None:
    """What the installed script calls; a shell calls it for what a line may go on with."""
    if "_ARGCOMPLETE" in os.environ:
        _complete()
    run(main)


def _module(name: str) -> Any:
    return import_module(f"medseg_kd.cli.{COMMANDS[name][1]}")


def _tell(words: Sequence[str]) -> None:
    """Help, version, or that there is no such command."""
    group = f"{words[0]} " if words and any(name.startswith(f"{words[0]} ") for name in COMMANDS) else ""
    listed = []
    for title, commands in GROUPS.items():
        lines = [f"  {name:16} {what}" for name, (what, _) in commands.items() if name.startswith(group)]
        listed += [f"{title}:", *lines, ""] if lines else []
    parser = Parser(
        "medseg-kd",
        "2D medical image segmentation and knowledge distillation.",
        usage=f"medseg-kd {group}COMMAND ...",
        epilog="\n".join([*listed, "medseg-kd COMMAND --help says what each takes."]),
    )
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument("command", metavar="COMMAND", help="one of those below")
    name = group + parser.read(words[bool(group) :][:1] or ["--help"]).command
    parser.error(f"there is no command {name!r}{did_you_mean(name, COMMANDS)}")


def _complete() -> None:
    """Answer the shell, and end: the commands as one parser."""
    import argcomplete

    parser = argparse.ArgumentParser()
    groups = {"": parser.add_subparsers()}
    for name, (what, _) in COMMANDS.items():
        group, _, last = name.rpartition(" ")
        if group not in groups:
            groups[group] = groups[""].add_parser(group).add_subparsers()
        groups[group].add_parser(last, help=what, parents=[_module(name).parser()], add_help=False)
    argcomplete.autocomplete(parser)
