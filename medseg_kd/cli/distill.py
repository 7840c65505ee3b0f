"""``tools/distill.py``: writes the config of a teacher-student pair."""

from pathlib import Path

from medseg_kd.cli import Parser
from medseg_kd.configuration import network_name, run_folder, write_pair
from medseg_kd.distill import METHODS
from medseg_kd.models.checkpoint import last_checkpoint


def main(argv: list[str] | None = None) -> None:
    """Writes a pair; see ``--help``.

    Raises:
        UserError: A config cannot be read, the two do not make a pair, or the file is already there.
    """
    parser = Parser(
        prog="distill.py",
        description="Writes the config that distils one segmentor into another, and says how to train it.",
    )
    parser.add_argument("--method", required=True, help=f"in any case: {', '.join(METHODS)}")
    parser.add_argument("--teacher", required=True, metavar="CONFIG", help="config that trains the teacher")
    parser.add_argument("--student", required=True, metavar="CONFIG", help="config of the student; its recipe is kept")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="config to write (default: configs/distill/<method>/<method>_<teacher>_<student>.py)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace FILE if it is already there")
    args = parser.parse_args(argv)
    pair = write_pair(args.method, args.teacher, args.student, args.out, args.overwrite)
    print(f"{pair.file}: {pair.method}, {network_name(pair.teacher)} -> {network_name(pair.student)}\nnext:")
    run = run_folder(pair.teacher)
    if last_checkpoint(run) is None:
        print(f"    python train.py {pair.teacher.filename}  # the teacher: {run} holds no checkpoint yet")
    print(f"    python train.py {pair.file}")
