"""``tools/doctor.py``: what works on this machine, and what mends the rest."""

import json
import sys
from dataclasses import asdict

from medseg_kd.cli import Parser
from medseg_kd.report.doctor import BROKEN, Result, doctor_page, examine


def main(argv: list[str] | None = None) -> None:
    """Prints the checks; exit code 1 where something is broken."""
    parser = Parser(
        prog="doctor.py",
        description="Says which versions are installed, what this machine has, what works, and the command that mends "
        "what does not. The exit code is 1 where something is broken.",
    )
    parser.add_argument("config", nargs="?", help="a config, to look at its run folder and its data too")
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    args = parser.parse_args(argv)
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
