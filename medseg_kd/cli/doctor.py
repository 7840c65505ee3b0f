"""``tools/doctor.py``: what works on this machine, and what mends the rest."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict

from medseg_kd.cli import Parser


def parser() -> Parser:
    """Its arguments."""
    made = Parser(
        "tools/doctor.py",
        "Says which versions are installed, what this machine has, what works, and the command that mends what does "
        "not. The exit code is 1 where something is broken.",
        ["configs/unet/unet_r18v1c_d8_40k_synapse.py"],
    )
    made.add_argument(
        "config", nargs="?", metavar="CONFIG", help="a config, to look at its run folder and its data too"
    )
    made.add_argument("--json", action="store_true", help="print the results as JSON")
    return made


def main(argv: Sequence[str] | None = None) -> None:
    """Prints the checks; exit code 1 where something is broken."""
    args = parser().read(argv)
    from medseg_kd.report.doctor import BROKEN, Result, doctor_page, examine

    cfg, results = None, []
    if args.config:
        try:
            from medseg_kd.configuration import load_run  # needs what may be broken

            cfg = load_run(args.config)
        except Exception as error:
            results = [
                Result("config", BROKEN, " ".join(str(error).split()), "correct the config, or what is broken below")
            ]
    results += examine(cfg)
    print(json.dumps([asdict(each) for each in results], indent=1) if args.json else doctor_page(results))
    if any(each.status == BROKEN for each in results):
        sys.exit(1)
