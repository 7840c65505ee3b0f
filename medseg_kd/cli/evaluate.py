"""``tools/evaluate.py``: scores of anybody's masks."""

import sys
from collections.abc import Sequence
from pathlib import Path

from medseg_kd.cli import Parser
from medseg_kd.cli.choices import HD95_CONVENTIONS, MASK_MEASURES, PROTOCOLS


def parser() -> Parser:
    """Its arguments."""
    made = Parser(
        "tools/evaluate.py",
        "Scores masks against true ones: two folders of NIfTI, MHA, NRRD, h5, npz or label images whose cases have the "
        "same names, folders with a volume for each organ, or two files. No config is needed.",
        ["masks labelsTs --out scores", "masks labels --classes background liver spleen --measures Dice NSD"],
    )
    made.add_argument("predictions", metavar="PREDICTIONS", help="folder of masks, or one mask")
    made.add_argument("truth", metavar="TRUTH", help="folder of the true masks, or one")
    add = made.add_argument_group("cases and classes").add_argument
    add("--labels", metavar="FILE", help="dataset.json of nnU-Net (default: the one beside TRUTH)")
    add("--classes", nargs="+", metavar="NAME", help="or the names of the values 0, 1, ...: background ...")
    add("--allow-missing", action="store_true", help="leave out cases that have no prediction")
    add = made.add_argument_group("what is measured").add_argument
    add("--measures", nargs="+", metavar="NAME", help=f"measures (default: {' '.join(MASK_MEASURES)})")
    add("--hd95", choices=HD95_CONVENTIONS, default="medpy", help="whose definition of HD95 (default: %(default)s)")
    by_organ = "tolerance of NSD: one number (default: 2), or liver=2 spleen=1 ..."
    add("--tolerance", nargs="+", type=_tolerance, default=[("", 2.0)], metavar="MM", help=by_organ)
    protocols = "how absent organs count, see docs/evaluation.md (default: both)"
    add("--protocols", nargs="+", choices=PROTOCOLS, default=PROTOCOLS, help=protocols)
    made.add_argument("--jobs", type=int, metavar="N", help="processes (default: one for each core)")
    made.add_argument(
        "--seed", type=int, default=0, metavar="N", help="seed of the bootstrap intervals (default: %(default)s)"
    )
    files = "folder to write: metrics.json, per_case.csv, scores.md and scores.tex"
    made.add_argument("--out", type=Path, metavar="DIR", help=files)
    return made


def main(argv: Sequence[str] | None = None) -> None:
    """``evaluate.py PREDICTIONS TRUTH``; exit code 1 where a case could not be scored.

    Raises:
        UserError: The masks do not pair, an argument cannot be, or a file cannot be written.
    """
    args = parser().read(argv)
    from medseg_kd.experiments.masks import evaluate
    from medseg_kd.report.scores import write_scores

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
