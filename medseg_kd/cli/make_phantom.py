"""``tools/make_phantom.py``: writes the procedural abdominal CT that stands in for real data."""

import argparse
from pathlib import Path

from medseg_kd.cli import Parser
from medseg_kd.datasets.phantom import write_phantom


def main(argv: list[str] | None = None) -> None:
    """Writes the phantom; see ``--help``."""
    parser = Parser(
        prog="make_phantom.py",
        description="Writes a synthetic abdominal CT with the Synapse classes, in the TransUNet layout. It is a "
        "stand-in for trying things out: scores on it say nothing about patients.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--out", type=Path, required=True, help="data folder to write")
    parser.add_argument("--cases", type=int, default=12, help="training cases")
    parser.add_argument("--test-cases", type=int, default=4, help="test cases")
    parser.add_argument("--slices", type=int, default=16, help="slices of a case")
    parser.add_argument("--size", type=int, default=96, help="pixels along each side of a slice")
    parser.add_argument("--seed", type=int, default=0, help="other seeds give other patients")
    args = parser.parse_args(argv)
    write_phantom(args.out, args.cases, args.test_cases, args.slices, args.size, args.seed)
    print(
        f"{args.out}: synthetic phantom, {args.cases} training and {args.test_cases} test cases of {args.slices} "
        f"slices {args.size}x{args.size}; use it with --data-root {args.out}"
    )
