"""``tools/prepare_slices.py``: NIfTI volumes and labels of any source into slices and volumes to train on."""

import argparse
from pathlib import Path

from medseg_kd.cli import Parser
from medseg_kd.datasets.conversion import Recipe, convert, find_pairs, load_label_map
from medseg_kd.datasets.intensities import Window
from medseg_kd.datasets.manifest import summary
from medseg_kd.datasets.spec import Channel

_EPILOG = """examples:
  python tools/prepare_slices.py --images raw/train/images --labels raw/train/labels --out data/mine \\
      --split train --window -160 240 --classes brainstem "spinal cord"
  python tools/prepare_slices.py --images raw/test/images --labels raw/test/labels --out data/mine \\
      --split test --window -160 240
docs/data.md describes the files, the label maps and the orientation."""


def main(argv: list[str] | None = None) -> None:
    """Converts one split; see ``--help``."""
    args = _parser().parse_args(argv)
    recipe = Recipe(Channel("CT", Window(*args.window)), load_label_map(args.label_map), tuple(args.classes or ()))
    pairs = find_pairs(args.images, args.labels)
    manifest = convert({args.split: pairs}, args.out, recipe, "prepare_slices", args.overwrite)
    print(summary(manifest, args.out))


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="prepare_slices.py",
        description="Turns NIfTI volumes and labels into the TransUNet layout. Call it once per split.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--images", type=Path, required=True, help="NIfTI file, or folder of NIfTI files")
    parser.add_argument("--labels", type=Path, required=True, help="the same for the labels; may be the same folder")
    parser.add_argument("--out", type=Path, required=True, help="data folder to write, the same for both splits")
    parser.add_argument("--split", choices=("train", "test"), required=True)
    parser.add_argument(
        "--window",
        type=float,
        nargs=2,
        required=True,
        metavar=("LO", "HI"),
        help="Hounsfield units that become 0 and 1",
    )
    parser.add_argument(
        "--label-map",
        default="none",
        metavar="MAP",
        help="none (default), btcv, totalsegmentator, amos, amos15, flare, flare13, lits or a file",
    )
    parser.add_argument("--classes", nargs="+", metavar="NAME", help="class names for the manifest, in label order")
    parser.add_argument("--overwrite", action="store_true", help="replace the split if it is already there")
    return parser
