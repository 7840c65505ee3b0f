"""``tools/browse_dataset.py``: look before you train."""

from collections.abc import Sequence
from pathlib import Path

from medseg_kd.cli import Parser
from medseg_kd.cli.run_arguments import add_run_arguments, load_config


def parser() -> Parser:
    """Its arguments."""
    made = Parser(
        "tools/browse_dataset.py",
        "Writes the batches that a training will draw into one HTML file that needs no network: each slice before and "
        "after augmentation with its labels, intensities before and after their rules, and how often each class occurs "
        "in the data. Of a distillation it is what the student sees; no teacher is needed.",
        ["configs/unet/unet_r18v1c_d8_40k_synapse.py --data-root data/synapse --batches 8"],
    )
    add_run_arguments(made)
    made.add_argument("--split", choices=("train", "val", "test"), default="train", help="which dataloader")
    made.add_argument("--batches", type=int, default=4, metavar="N", help="batches to show (default: 4)")
    made.add_argument("--seed", type=int, metavar="N", help="of order and augmentation (default: the config's)")
    made.add_argument("--out", type=Path, metavar="FILE", help="default: browse_<split>.html in the run folder")
    return made


def main(argv: Sequence[str] | None = None) -> None:
    """Writes the page; see ``--help``.

    Raises:
        UserError: The config or its data cannot be read, or the file cannot be written.
    """
    args = parser().read(argv)
    if args.batches < 1:
        parser().error(f"--batches {args.batches}: expected at least 1")
    from medseg_kd.report.look.batches import browse
    from medseg_kd.report.look.page import write_look_page

    if args.seed is not None:
        args.cfg_options.append(f"randomness.seed={args.seed}")
    cfg = load_config(args)
    browsed, out = browse(cfg, args.split, args.batches), args.out or Path(cfg.work_dir, f"browse_{args.split}.html")
    seed = cfg.get("randomness", {}).get("seed") or 0
    about = [("config", args.config), ("batches", f"the first {args.batches} with seed {seed}")]
    absent = write_look_page(browsed, out, f"{Path(args.config).stem}, {args.split}", about)
    print(f"{out}: {len(browsed.slices)} slices" + (f"; no slice has {', '.join(absent)}" if absent else ""))
