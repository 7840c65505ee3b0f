"""``tools/check_dataset.py``: everything that is wrong with a data set."""

import sys
from collections.abc import Sequence
from pathlib import Path

from medseg_kd.cli import Parser
from medseg_kd.errors import UserError


def parser() -> Parser:
    """Its arguments."""
    made = Parser(
        "tools/check_dataset.py",
        "Reads all of a data set and prints what is wrong with it: file, found, expected, remedy; then what it holds. "
        "The exit code is 1 where something would spoil a training. docs/data.md lists the checks.",
        ["data/synapse", "configs/unet/unet_r18v1c_d8_40k_synapse.py --workers 8"],
    )
    made.add_argument("data", type=Path, metavar="DATA", help="a data folder in any format, or a config: what it reads")
    made.add_argument("--data-root", metavar="DIR", help="data folder in place of the config's")
    made.add_argument("--workers", type=int, default=0, metavar="N", help="processes that read (default: this one)")
    made.add_argument("--json", action="store_true", help="print all findings and the summary as JSON")
    return made


def main(argv: Sequence[str] | None = None) -> None:
    """Prints what was found; exit code 1 where that is a fault.

    Raises:
        UserError: There is no data set, or the config cannot be read.
    """
    args = parser().read(argv)
    if args.workers < 0:
        raise UserError(f"--workers {args.workers}: expected 0 or more")
    is_config = args.data.suffix in (".py", ".json", ".yaml", ".yml")
    if not args.data.is_dir() and not is_config:
        raise UserError(f"{args.data} is neither a data folder nor a config: give one of the two")
    from medseg_kd.configuration import load_run
    from medseg_kd.configuration.checking import LOADERS
    from medseg_kd.datasets.checks.survey import parts_of_folder, parts_of_loaders, survey
    from medseg_kd.report.data_check import data_check_json, data_check_page

    if args.data.is_dir():
        parts = parts_of_folder(args.data)
    else:
        cfg = load_run(args.data, data_root=args.data_root)
        parts = parts_of_loaders({name: cfg[name]["dataset"] for name in LOADERS if cfg.get(name)})
    if not parts:
        raise UserError(f"{args.data} reads no data set of this project: there is nothing to check")
    result = survey(parts, args.workers)
    print(data_check_json(result) if args.json else data_check_page(result))
    if any(finding.fault for finding in result.findings):
        sys.exit(1)
