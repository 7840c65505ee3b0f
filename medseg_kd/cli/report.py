"""``tools/report.py``: the page of a tested run, or of several side by side."""

from collections.abc import Sequence
from pathlib import Path

from medseg_kd.cli import Parser


def parser() -> Parser:
    """Its arguments."""
    made = Parser(
        "tools/report.py",
        "Writes the scores, curves, costs and cases of a tested run, or of several side by side, into one HTML file "
        "that needs no network. A run is its folder (work_dirs/<config name>) or its test folder.",
        ["work_dirs/unet_r18_phantom work_dirs/cwd_unet_r18_phantom --out comparison.html"],
    )
    made.add_argument("runs", nargs="+", metavar="RUN", help="the first is what the others are compared with")
    made.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="the page (default: report.html in the run's folder; of several runs comparison.html here)",
    )
    return made


def main(argv: Sequence[str] | None = None) -> None:
    """``report.py RUN [RUN ...]``: write a page that a browser opens from its file.

    Raises:
        UserError: A folder holds no scores, the runs have other cases or organs, or the file cannot be written.
    """
    args = parser().read(argv)
    from medseg_kd.report.page.run_files import RunFiles
    from medseg_kd.report.page.writing import write_page

    runs = [RunFiles.find(run) for run in args.runs]
    out = args.out or (runs[0].folder / "report.html" if len(runs) == 1 else Path("comparison.html"))
    print(f"Report: {write_page(runs, out)}")
