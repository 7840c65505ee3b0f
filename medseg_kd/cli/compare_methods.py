"""``tools/compare_methods.py``: does distillation help? Teacher, plain student, distilled students, several seeds."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from medseg_kd.cli import Parser
from medseg_kd.cli.experiment_arguments import add_experiment_arguments, method_options, resources_of, settings_of
from medseg_kd.distill import METHODS
from medseg_kd.errors import UserError
from medseg_kd.evaluation.measures.base import PROTOCOLS
from medseg_kd.experiments.execution import check_cases, execute
from medseg_kd.experiments.methods import finished, plan_longer, plan_methods
from medseg_kd.experiments.results import keep, kept
from medseg_kd.files import nothing_new
from medseg_kd.report.methods_page import write_page

_TEACHER, _STUDENT = "configs/compare/teacher_headneck.py", "configs/compare/student_headneck.py"


def main(argv: Sequence[str] | None = None) -> None:
    """Train and test everything that is not finished yet, then write the page."""
    parser = Parser(
        prog="compare_methods.py",
        description="Trains a teacher, the plain student and the student distilled by each method, with every seed, "
        "tests them and writes a page with the results. The student of a seed learns from the teacher of that seed. "
        "What is finished already is skipped: run it again after an interruption, or to make the page again.",
    )
    parser.add_argument("--teacher", default=_TEACHER, metavar="CONFIG", help="(%(default)s)")
    parser.add_argument("--student", default=_STUDENT, metavar="CONFIG", help="(%(default)s)")
    parser.add_argument("--methods", nargs="*", default=list(METHODS), metavar="METHOD", help=f"({' '.join(METHODS)})")
    parser.add_argument(
        "--method-options",
        nargs="+",
        action="append",
        default=[],
        metavar=("METHOD", "KEY=VALUE"),
        help="options of a method, such as CWD loss_weight=1; once for each method that needs some",
    )
    parser.add_argument("--work-dir", type=Path, metavar="DIR", help="(work_dirs/compare/<student>)")
    parser.add_argument("--out", type=Path, default=Path("docs/results.md"), metavar="FILE", help="(%(default)s)")
    parser.add_argument("--protocol", choices=PROTOCOLS, default="strict", help="of the page (%(default)s)")
    parser.add_argument(
        "--longer-plain",
        action="store_true",
        help="train the plain student also for as long as the dearest method takes",
    )
    parser.add_argument("--kept", action="store_true", help="make the page from the scores that are kept beside it")
    parser.add_argument(
        "--finished", action="store_true", help="train nothing: make the page of the seeds that are finished"
    )
    add_experiment_arguments(parser)
    words = list(sys.argv[1:] if argv is None else argv)
    args = parser.parse_args(words)
    options = method_options(args.method_options, args.methods)
    folder = args.work_dir or Path("work_dirs/compare", Path(args.student).stem)
    if args.out.is_dir():
        raise UserError(f"--out {args.out} is a folder: name a file in it")
    scores = args.out.with_suffix("")
    if args.kept:
        write_page(kept(scores), args.out)
        print(f"{args.out}, from {scores}")
        return
    resources, settings = resources_of(args), settings_of(args)
    with nothing_new(folder):
        plan = plan_methods(args.teacher, args.student, args.methods, args.seeds, folder, options, settings)
        if args.finished:
            plan = finished(plan, folder)
        runs = [run for same in plan.values() for run in same.values()]
        check_cases(runs)
    if not args.finished:
        execute(runs, resources)
    if args.longer_plain:
        plan = plan_longer(plan)
        if args.finished:
            plan = finished(plan, folder)
        else:
            execute([run for same in plan.values() for run in same.values()], resources)
    command = shlex.join(["python", "tools/compare_methods.py", *(word for word in words if word != "--finished")])
    keep(plan, options, args.protocol, command, scores)
    write_page(kept(scores), args.out)
    print(f"{args.out}, from {scores}: {len(plan)} seed(s) of {len(next(iter(plan.values())))} runs")
