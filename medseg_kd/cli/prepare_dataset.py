"""``tools/prepare_dataset.py``: the download of a published data set into a folder to train on."""

from pathlib import Path

from medseg_kd.cli import Parser
from medseg_kd.datasets.conversion.known import KNOWN, prepare
from medseg_kd.datasets.manifest import summary


def main(argv: list[str] | None = None) -> None:
    """Converts a data set; see ``--help``."""
    parser = Parser(
        prog="prepare_dataset.py",
        description="Turns the download of a published data set into a folder to train on, split as papers split it. "
        "docs/datasets.md says where to get it and under which licence.",
    )
    splits = "; ".join(f"{name}: {', '.join(known.splits)}" for name, known in KNOWN.items())
    parser.add_argument("name", choices=tuple(KNOWN), help="the data set")
    parser.add_argument("--raw", type=Path, required=True, help="its unpacked download")
    parser.add_argument("--out", type=Path, required=True, help="data folder to write, such as data/acdc")
    parser.add_argument("--split", help=f"how it is split, the first unless named ({splits})")
    parser.add_argument("--allow-missing", action="store_true", help="take what is there of an incomplete download")
    parser.add_argument("--overwrite", action="store_true", help="replace what an earlier call wrote")
    args = parser.parse_args(argv)
    manifest = prepare(args.name, args.raw, args.out, args.split, args.allow_missing, args.overwrite)
    if note := manifest.get("note"):
        print(f"warning: {note}")
    print(summary(manifest, args.out))
