"""``tools/make_phantom.py``: writes the procedural abdominal CT that stands in for real data."""

from collections.abc import Sequence
from pathlib import Path

from medseg_kd.cli import Parser


def parser() -> Parser:
    """Its arguments."""
    made = Parser(
        "tools/make_phantom.py",
        "Writes a synthetic abdominal CT with the Synapse classes, in the TransUNet layout. It is a stand-in for "
        "trying things out: scores on it say nothing about patients.",
        ["--out data/phantom"],
    )
    made.add_argument("--out", type=Path, required=True, metavar="DIR", help="data folder to write")
    for option, default, what in (
        ("--cases", 12, "training cases"),
        ("--test-cases", 4, "test cases"),
        ("--slices", 16, "slices of a case"),
        ("--size", 96, "pixels along each side of a slice"),
        ("--seed", 0, "other seeds give other patients"),
    ):
        made.add_argument(option, type=int, default=default, metavar="N", help=f"{what} (default: %(default)s)")
    return made


def main(argv: Sequence[str] | None = None) -> None:
    """Writes the phantom; see ``--help``."""
    args = parser().read(argv)
    from medseg_kd.datasets.phantom import write_phantom

    write_phantom(args.out, args.cases, args.test_cases, args.slices, args.size, args.seed)
    print(
        f"{args.out}: synthetic phantom, {args.cases} training and {args.test_cases} test cases of {args.slices} "
        f"slices {args.size}x{args.size}; use it with --data-root {args.out}"
    )
