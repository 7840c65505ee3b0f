"""``tools/check_dataset.py``: everything that is wrong with a data set."""

import sys
from pathlib import Path

from medseg_kd.cli import Parser
from medseg_kd.configuration import load_run
from medseg_kd.configuration.checking import LOADERS
from medseg_kd.datasets.checks.survey import parts_of_folder, parts_of_loaders, survey
from medseg_kd.errors import UserError
from medseg_kd.report.data_check import data_check_json, data_check_page


def main(argv: list[str] | None = None) -> None:
    """Prints what was found; exit code 1 where that is a fault.

    Raises:
        UserError: There is no data set, or the config cannot be read.
    """
    parser = Parser(
        prog="check_dataset.py",
        description="Reads all of a data set and prints what is wrong with it: file, found, expected, remedy; then "
        "what it holds. The exit code is 1 where something would spoil a training. docs/data.md lists the checks.",
    )
    parser.add_argument("data", type=Path, help="a data folder in any format, or a config: what it would read")
    parser.add_argument("--data-root", metavar="DIR", help="data folder in place of the config's")
    parser.add_argument("--workers", type=int, default=0, help="processes that read (default: this one)")
    parser.add_argument("--json", action="store_true", help="print all findings and the summary as JSON")
    args = parser.parse_args(argv)
    if args.workers < 0:
        raise UserError(f"--workers {args.workers}: expected 0 or more")
    if args.data.is_dir():
        parts = parts_of_folder(args.data)
    elif args.data.suffix in (".py", ".json", ".yaml", ".yml"):
        cfg = load_run(args.data, data_root=args.data_root)
        parts = parts_of_loaders({name: cfg[name]["dataset"] for name in LOADERS if cfg.get(name)})
    else:
        raise UserError(f"{args.data} is neither a data folder nor a config: give one of the two")
    if not parts:
        raise UserError(f"{args.data} reads no data set of this project: there is nothing to check")
    result = survey(parts, args.workers)
    print(data_check_json(result) if args.json else data_check_page(result))
    if any(finding.fault for finding in result.findings):
        sys.exit(1)
