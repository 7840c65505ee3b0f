"""``tools/prepare_slices.py``: NIfTI volumes and labels of any source into slices and volumes to train on."""

from collections.abc import Sequence
from pathlib import Path

from medseg_kd.cli import Parser


def parser() -> Parser:
    """Its arguments."""
    made = Parser(
        "tools/prepare_slices.py",
        "Turns NIfTI volumes and labels into the TransUNet layout. Call it once per split. docs/data.md describes the "
        "files, the label maps and the orientation.",
        [
            "--images raw/train/images --labels raw/train/labels --out data/mine \\\n"
            '      --split train --window -160 240 --classes brainstem "spinal cord"',
            "--images raw/test/images --labels raw/test/labels --out data/mine \\\n"
            "      --split test --window -160 240",
        ],
    )
    add = made.add_argument
    add("--images", type=Path, required=True, metavar="PATH", help="NIfTI file, or folder of NIfTI files")
    add("--labels", type=Path, required=True, metavar="PATH", help="the same for the labels; may be the same folder")
    add("--out", type=Path, required=True, metavar="DIR", help="data folder to write, the same for both splits")
    add("--split", choices=("train", "test"), required=True, help="what the files are for")
    units = "Hounsfield units that become 0 and 1"
    add("--window", type=float, nargs=2, required=True, metavar=("LO", "HI"), help=units)
    maps = "none (default), btcv, totalsegmentator, amos, amos15, flare, flare13, lits or a file"
    add("--label-map", default="none", metavar="MAP", help=maps)
    add("--classes", nargs="+", metavar="NAME", help="class names for the manifest, in label order")
    add("--overwrite", action="store_true", help="replace the split if it is already there")
    return made


def main(argv: Sequence[str] | None = None) -> None:
    """Converts one split; see ``--help``."""
    args = parser().read(argv)
    from medseg_kd.datasets.conversion import Recipe, convert, find_pairs, load_label_map
    from medseg_kd.datasets.intensities import Window
    from medseg_kd.datasets.manifest import summary
    from medseg_kd.datasets.spec import Channel

    recipe = Recipe(Channel("CT", Window(*args.window)), load_label_map(args.label_map), tuple(args.classes or ()))
    pairs = find_pairs(args.images, args.labels)
    manifest = convert({args.split: pairs}, args.out, recipe, "prepare_slices", args.overwrite)
    print(summary(manifest, args.out))
