"""``tools/convert_weights.py``: checkpoints of other code become ours."""

from collections.abc import Sequence
from pathlib import Path

from medseg_kd.cli import Parser
from medseg_kd.cli.choices import WEIGHT_SOURCES
from medseg_kd.cli.run_arguments import add_config
from medseg_kd.errors import UserError


def parser() -> Parser:
    """Its arguments."""
    made = Parser(
        "tools/convert_weights.py",
        "Turns a checkpoint of other code into one that test.py, teacher_ckpt and load_from take. Opening a checkpoint "
        "never runs code that is hidden in it.",
        ["mmseg_kd unet_r50.pth teacher.pth"],
    )
    made.add_argument(
        "source",
        choices=WEIGHT_SOURCES,
        metavar="SOURCE",
        help=f"whose weights they are: {', '.join(WEIGHT_SOURCES)}; mmengine: of a whole segmentor; resnet: of an "
        "encoder, for init_cfg",
    )
    made.add_argument("input", metavar="IN", help="the checkpoint")
    made.add_argument("output", metavar="OUT", type=Path, help="where ours is written, such as teacher.pth")
    add_config(made, "--config", help="config that must take the weights (default: the source's own)")
    made.add_argument("--num-classes", type=int, metavar="N", help="classes with background (default: the config's)")
    made.add_argument("--overwrite", action="store_true", help="replace OUT")
    return made


def main(argv: Sequence[str] | None = None) -> None:
    """Read a checkpoint, rename its weights, check that they fit the network, write them.

    Args:
        argv: the arguments; None takes the command line's.

    Raises:
        UserError: the file cannot be read, holds other weights than the source's, or the output cannot be written.
    """
    args = parser().read(argv)
    if args.output.exists() and not args.overwrite:
        raise UserError(f"{args.output} is there already: choose another name, or replace it with --overwrite")
    from medseg_kd.engine.weight_conversion import convert_checkpoint
    from medseg_kd.models.weights import SOURCES

    weights, config = convert_checkpoint(args.source, args.input, args.output, args.config, args.num_classes)
    encoder = "for init_cfg=dict(type='Pretrained', checkpoint=...) of the encoder"
    said = f"for {config}" if config else "of a whole segmentor" if SOURCES[args.source].is_whole else encoder
    millions = sum(value.numel() for value in weights.values()) / 1e6
    print(f"wrote {args.output}: {len(weights)} tensors, {millions:.2f} M numbers, {said}")
