"""``tools/browse_dataset.py``: look before you train."""

from pathlib import Path

from medseg_kd.cli import Parser
from medseg_kd.cli.run_arguments import add_run_arguments, load_config, parse


def main(argv: list[str] | None = None) -> None:
    """Writes the page; see ``--help``.

    Raises:
        UserError: The config or its data cannot be read, or the file cannot be written.
    """
    parser = Parser(
        prog="browse_dataset.py",
        description="Writes the batches that a training will draw into one HTML file that needs no network: each slice "
        "before and after augmentation with its labels, intensities before and after their rules, and how often each "
        "class occurs in the data. Of a distillation it is what the student sees; no teacher is needed.",
    )
    add_run_arguments(parser)
    parser.add_argument("--split", choices=("train", "val", "test"), default="train", help="which dataloader")
    parser.add_argument("--batches", type=int, default=4, metavar="N", help="batches to show (default: 4)")
    parser.add_argument("--seed", type=int, help="of order and augmentation (default: the config's)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: browse_<split>.html in the run folder")
    args = parse(parser, argv)
    if args.batches < 1:
        parser.error(f"--batches {args.batches}: expected at least 1")
    if args.seed is not None:
        args.cfg_options.append(f"randomness.seed={args.seed}")
    cfg = load_config(args)
    from medseg_kd.report.look.batches import browse  # seconds, which --help does not take
    from medseg_kd.report.look.page import write_look_page

    browsed, out = browse(cfg, args.split, args.batches), args.out or Path(cfg.work_dir, f"browse_{args.split}.html")
    seed = cfg.get("randomness", {}).get("seed") or 0
    about = [("config", args.config), ("batches", f"the first {args.batches} with seed {seed}")]
    absent = write_look_page(browsed, out, f"{Path(args.config).stem}, {args.split}", about)
    print(f"{out}: {len(browsed.slices)} slices" + (f"; no slice has {', '.join(absent)}" if absent else ""))
