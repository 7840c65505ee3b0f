"""``tools/evaluate.py``: scores of anybody's masks."""

import sys
from collections.abc import Sequence
from pathlib import Path

from medseg_kd.cli import Parser
from medseg_kd.evaluation.measures.base import PROTOCOLS
from medseg_kd.evaluation.measures.surface_distance import CONVENTIONS
from medseg_kd.experiments.masks import MEASURES, evaluate
from medseg_kd.report.scores import write_scores


def main(argv: Sequence[str] | None = None) -> None:
    """``evaluate.py PREDICTIONS TRUTH``; exit code 1 where a case could not be scored.

    Raises:
        UserError: The masks do not pair, an argument cannot be, or a file cannot be written.
    """
    parser = Parser(
        prog="evaluate.py",
        description="Score masks against true ones: two folders of NIfTI, MHA, NRRD, h5, npz or label images whose "
        "cases have the same names, folders with a volume for each organ, or two files. No config is needed.",
    )
    parser.add_argument("predictions", metavar="PREDICTIONS", help="folder of masks, or one mask")
    parser.add_argument("truth", metavar="TRUTH", help="folder of the true masks, or one")
    add = parser.add_argument
    add("--labels", metavar="FILE", help="dataset.json of nnU-Net (default: the one beside TRUTH)")
    add("--classes", nargs="+", metavar="NAME", help="in its place the names of the values 0, 1, ...: background ...")
    add("--measures", nargs="+", metavar="NAME", help=f"(default: {' '.join(MEASURES)})")
    add("--hd95", choices=CONVENTIONS, default="medpy", help="whose HD95 (default: %(default)s)")
    by_organ = "of NSD: one number (default: 2), or liver=2 spleen=1 ..."
    add("--tolerance", nargs="+", type=_tolerance, default=[("", 2.0)], metavar="MM", help=by_organ)
    add("--protocols", nargs="+", choices=PROTOCOLS, default=PROTOCOLS, help="(default: both)")
    add("--allow-missing", action="store_true", help="leave out cases that have no prediction")
    add("--jobs", type=int, metavar="N", help="processes (default: one for each core)")
    add("--seed", type=int, default=0, help="of the bootstrap (default: %(default)s)")
    add("--out", type=Path, metavar="DIR", help="folder for metrics.json, per_case.csv, scores.md and scores.tex")
    args = parser.parse_args(argv)
    options = {key: value for key, value in vars(args).items() if key != "out"}
    tolerance = dict(args.tolerance)
    found = evaluate(**{**options, "tolerance": tolerance.get("", tolerance) if len(tolerance) == 1 else tolerance})
    for note in found.notes:
        print(f"Note: {note}")
    for summary in found.summaries:
        print(summary.table, *summary.interval_lines, sep="\n")
    for case, reason in found.failed.items():
        print(f"not scored: {case}\n  {reason}", file=sys.stderr)
    if args.out is not None and found.summaries:
        print(f"Scores are in {', '.join(map(str, write_scores(args.out, found.summaries, found.notes)))}")
    if found.failed:
        sys.exit(1)


def _tolerance(text: str) -> tuple[str, float]:
    """Organ and number; "" where it is that of all organs."""
    organ, _, number = text.rpartition("=")
    return organ, float(number)
