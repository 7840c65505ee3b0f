"""``tools/prepare_synapse.py``: the raw BTCV download into the Synapse data set as TransUNet split it."""

from collections.abc import Sequence
from pathlib import Path

from medseg_kd.cli import Parser


def parser() -> Parser:
    """Its arguments."""
    made = Parser(
        "tools/prepare_synapse.py",
        "Turns the raw BTCV volumes (Synapse syn3193805, Abdomen/RawData.zip) into the Synapse data set: 18 training "
        "and 12 test cases, window -125 275 HU, 8 organs. docs/data.md says how to get them.",
        ["--raw downloads/RawData --out data/synapse"],
    )
    made.add_argument("--raw", type=Path, required=True, metavar="DIR", help="the unpacked Abdomen/RawData.zip")
    out = "data folder to write, such as data/synapse"
    made.add_argument("--out", type=Path, required=True, metavar="DIR", help=out)
    made.add_argument("--overwrite", action="store_true", help="replace what an earlier call wrote")
    return made


def main(argv: Sequence[str] | None = None) -> None:
    """Converts both splits; see ``--help``."""
    args = parser().read(argv)
    from medseg_kd.datasets.conversion import Recipe, convert, load_label_map
    from medseg_kd.datasets.conversion.btcv import CHANNEL, find_btcv
    from medseg_kd.datasets.manifest import summary

    recipe = Recipe(CHANNEL, load_label_map("btcv"))
    manifest = convert(find_btcv(args.raw), args.out, recipe, "prepare_synapse", args.overwrite)
    print(summary(manifest, args.out))
