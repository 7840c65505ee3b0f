"""``tools/analyze_logs.py``: losses, scores and learning rates of runs as curves."""

from collections.abc import Sequence
from pathlib import Path

from medseg_kd.cli import Parser


def parser() -> Parser:
    """Its arguments."""
    made = Parser(
        "tools/analyze_logs.py",
        "Prints the last, lowest and highest of what runs logged, and draws it as curves, a panel for each value with "
        "a line for each run.",
        ["work_dirs/unet_r18_phantom work_dirs/cwd_unet_r18_phantom --out curves.png"],
    )
    made.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folder, such as work_dirs/<config name>")
    made.add_argument(
        "--keys", nargs="+", default=[], metavar="NAME", help="values (default: losses, scores, learning rate)"
    )
    made.add_argument("--out", type=Path, metavar="FILE", help="draw into this PNG, SVG or PDF file")
    return made


def main(argv: Sequence[str] | None = None) -> None:
    """``analyze_logs.py RUN [RUN ...]``.

    Raises:
        UserError: A folder holds no log, or no run logged a value.
    """
    args = parser().read(argv)
    from medseg_kd.report.curves import chosen_keys, draw_curves, last_values, read_curves

    runs = {str(run): read_curves(run) for run in args.runs}
    keys = chosen_keys(runs, args.keys)
    print(last_values(runs, keys))
    if args.out is not None:
        draw_curves(runs, keys, args.out)
        print(f"Drawn: {args.out}")
