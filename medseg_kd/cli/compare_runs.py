"""``tools/compare_runs.py``: tested runs side by side."""

from collections.abc import Sequence
from pathlib import Path

from medseg_kd.cli import Parser
from medseg_kd.cli.choices import PROTOCOLS
from medseg_kd.errors import UserError


def parser() -> Parser:
    """Its arguments."""
    made = Parser(
        "tools/compare_runs.py",
        "Compares tested runs: a table as papers print it, and paired differences to the first run. A run is its "
        "folder (work_dirs/<config name>), its test folder or its per_case.csv.",
        ["work_dirs/unet_r18v1c_d8_40k_synapse work_dirs/cwd_unet_r50_unet_r18_40k_synapse --latex"],
    )
    made.add_argument("baseline", metavar="RUN_A", help="the run that the others are compared with")
    made.add_argument("runs", nargs="+", metavar="RUN_B", help="the other runs")
    protocol = "how absent organs count, see docs/evaluation.md (default: %(default)s)"
    made.add_argument("--protocol", choices=PROTOCOLS, default=PROTOCOLS[0], help=protocol)
    made.add_argument(
        "--measures",
        nargs="+",
        default=["Dice", "HD95"],
        metavar="NAME",
        help="what to compare, such as Dice, HD95 or my_measures.Recall; the first is also shown for each organ "
        "(default: Dice HD95)",
    )
    made.add_argument("--latex", action="store_true", help="add the table for LaTeX (booktabs)")
    made.add_argument(
        "--seed", type=int, default=0, metavar="N", help="seed of the bootstrap intervals (default: %(default)s)"
    )
    made.add_argument("--out", type=Path, metavar="FILE", help="write the text to a file too")
    return made


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table of the runs and their paired differences to the first.

    Args:
        argv: the arguments; None takes the command line's.

    Raises:
        UserError: the runs cannot be compared, or the text cannot be written.
    """
    args = parser().read(argv)
    if args.seed < 0:
        raise UserError(f"--seed {args.seed}: expected 0 or more.")
    from medseg_kd.evaluation.measures.base import kind_of
    from medseg_kd.experiments.comparison import read_runs
    from medseg_kd.files import write_text
    from medseg_kd.report.compared_runs import compared_runs

    kinds = list(dict.fromkeys(map(kind_of, args.measures)))
    text = compared_runs(
        read_runs([args.baseline, *args.runs], args.protocol, kinds), args.protocol, kinds, args.latex, args.seed
    )
    print(text, end="")
    if args.out is not None:
        write_text(args.out, text)
