"""``tools/prepare_dataset.py``: the download of a published data set into a folder to train on."""

from collections.abc import Sequence
from pathlib import Path

from medseg_kd.cli import Parser
from medseg_kd.cli.choices import DATA_SETS


def parser() -> Parser:
    """Its arguments."""
    made = Parser(
        "tools/prepare_dataset.py",
        "Turns the download of a published data set into a folder to train on, split as papers split it. "
        "docs/datasets.md says where to get it and under which licence.",
        ["acdc --raw downloads/ACDC --out data/acdc"],
    )
    splits = "; ".join(f"{name}: {', '.join(names)}" for name, names in DATA_SETS.items())
    made.add_argument("name", choices=tuple(DATA_SETS), metavar="NAME", help=f"the data set: {', '.join(DATA_SETS)}")
    made.add_argument("--raw", type=Path, required=True, metavar="DIR", help="its unpacked download")
    made.add_argument("--out", type=Path, required=True, metavar="DIR", help="data folder to write, such as data/acdc")
    made.add_argument("--split", metavar="NAME", help=f"how it is split (default: the first of {splits})")
    made.add_argument("--allow-missing", action="store_true", help="take what is there of an incomplete download")
    made.add_argument("--overwrite", action="store_true", help="replace what an earlier call wrote")
    return made


def main(argv: Sequence[str] | None = None) -> None:
    """Converts a data set; see ``--help``."""
    args = parser().read(argv)
    from medseg_kd.datasets.conversion.known import prepare
    from medseg_kd.datasets.manifest import summary

    manifest = prepare(args.name, args.raw, args.out, args.split, args.allow_missing, args.overwrite)
    if note := manifest.get("note"):
        print(f"warning: {note}")
    print(summary(manifest, args.out))
