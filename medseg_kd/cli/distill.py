"""``tools/distill.py``: writes the config of a teacher-student pair."""

from collections.abc import Sequence
from pathlib import Path

from medseg_kd.cli import Parser
from medseg_kd.cli.choices import METHODS
from medseg_kd.cli.run_arguments import add_config


def parser() -> Parser:
    """Its arguments."""
    made = Parser(
        "tools/distill.py",
        "Writes the config that distils one segmentor into another, and says how to train it.",
        [
            "--method cwd --teacher configs/medical_seg/mednext_40k_synapse.py \\\n"
            "      --student configs/fcn/fcn_r18_d8_40k_synapse.py"
        ],
    )
    named = f"in any case: {', '.join(METHODS)}; labels: no distillation loss, see model.teacher_labels"
    method = made.add_argument("--method", required=True, metavar="METHOD", help=named)
    method.completer = lambda **_: (*METHODS, "labels")  # type: ignore[attr-defined]
    add_config(made, "--teacher", required=True, help="config that trains the teacher")
    recipe = "config of the student; its recipe is kept"
    add_config(made, "--student", required=True, help=recipe)
    made.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="config to write (default: configs/distill/<method>/<method>_<teacher>_<student>.py)",
    )
    made.add_argument("--overwrite", action="store_true", help="replace FILE if it is already there")
    return made


def main(argv: Sequence[str] | None = None) -> None:
    """Writes a pair; see ``--help``.

    Raises:
        UserError: A config cannot be read, the two do not make a pair, or the file is already there.
    """
    args = parser().read(argv)
    from medseg_kd.configuration import network_name, run_folder, write_pair
    from medseg_kd.models.checkpoint import last_checkpoint

    pair = write_pair(args.method, args.teacher, args.student, args.out, args.overwrite)
    print(f"{pair.file}: {pair.method}, {network_name(pair.teacher)} -> {network_name(pair.student)}\nnext:")
    run = run_folder(pair.teacher)
    if last_checkpoint(run) is None:
        print(f"    python train.py {pair.teacher.filename}  # the teacher: {run} holds no checkpoint yet")
    print(f"    python train.py {pair.file}")
