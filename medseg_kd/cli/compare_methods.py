"""``tools/compare_methods.py``: does distillation help? Teacher, plain student, distilled students, several seeds."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from medseg_kd.cli import Parser
from medseg_kd.cli.choices import METHODS, PROTOCOLS
from medseg_kd.cli.experiment_arguments import add_experiment_arguments, method_options, resources_of, settings_of
from medseg_kd.cli.run_arguments import add_config
from medseg_kd.errors import UserError

_TEACHER, _STUDENT = "configs/compare/teacher_w16_headneck.py", "configs/compare/student_w8_headneck.py"
_TITLE = "Does distillation help?"


def parser() -> Parser:
    """Its arguments."""
    made = Parser(
        "tools/compare_methods.py",
        "Trains a teacher, the plain student and the student distilled by each method, with every seed, tests them and "
        "writes a page with the results. The student of a seed learns from the teacher of that seed. What is finished "
        "already is skipped: run it again after an interruption, or to make the page again.",
        [
            "--teacher configs/unet/unet_r50_s4_d8_40k_synapse.py \\\n"
            "      --student configs/unet/unet_r18v1c_d8_40k_synapse.py --methods KD CWD --seeds 0 1 2 --out results.md"
        ],
    )
    compared = made.add_argument_group("what is compared")
    add_config(compared, "--teacher", default=_TEACHER, help="config of the teacher (default: %(default)s)")
    add_config(compared, "--student", default=_STUDENT, help="of the student (default: %(default)s)")
    add = compared.add_argument
    add("--methods", nargs="*", default=list(METHODS), metavar="METHOD", help=f"(default: all: {' '.join(METHODS)})")
    add(
        "--method-options",
        nargs="+",
        action="append",
        default=[],
        metavar=("METHOD", "KEY=VALUE"),
        help="options of a method, such as CWD loss_weight=1; once for each method that needs some",
    )
    labels = (
        "let the teacher label, for the distilled students, training cases without a label, or whose labels the "
        "student's config leaves unread (dataset.labelled); one student learns from these labels alone"
    )
    add("--teacher-labels", action="store_true", help=labels)
    longer = "train the plain student also for as long as the dearest method takes"
    add("--longer-plain", action="store_true", help=longer)
    add_experiment_arguments(made)
    add = made.add_argument_group("what is written").add_argument
    add("--work-dir", type=Path, metavar="DIR", help="folder of the runs (default: work_dirs/compare/<student>)")
    add("--out", type=Path, default=Path("docs/results.md"), metavar="FILE", help="the page (default: %(default)s)")
    add("--title", help=f"heading of the page (default: {_TITLE})")
    absent = "how absent organs count on the page, see docs/evaluation.md (default: %(default)s)"
    add("--protocol", choices=PROTOCOLS, default="strict", help=absent)
    add("--kept", action="store_true", help="run nothing: make the page from the scores that are kept beside it")
    add("--finished", action="store_true", help="train nothing: make the page of the seeds that are finished")
    return made


def main(argv: Sequence[str] | None = None) -> None:
    """Train and test everything that is not finished yet, then write the page."""
    words = list(sys.argv[1:] if argv is None else argv)
    args = parser().read(words)
    options = method_options(args.method_options, args.methods)
    folder = args.work_dir or Path("work_dirs/compare", Path(args.student).stem)
    if args.out.is_dir():
        raise UserError(f"--out {args.out} is a folder: name a file in it")
    scores = args.out.with_suffix("")
    if scores == args.out:
        raise UserError(f"--out {args.out}: expected a name with an ending, such as {args.out}.md")
    from medseg_kd.experiments.execution import check_cases, execute
    from medseg_kd.experiments.methods import LONGER, finished, plan_longer, plan_methods, runs_of
    from medseg_kd.experiments.results import keep, kept
    from medseg_kd.files import nothing_new
    from medseg_kd.report.methods_page import write_page

    if args.kept:
        if args.title is not None:
            raise UserError(f'--kept keeps the title: leave out --title, or change "title" in {scores}/facts.json')
        write_page(kept(scores), args.out)
        print(f"{args.out}, from {scores}")
        return
    resources, settings = resources_of(args), settings_of(args)
    with nothing_new(folder):
        chosen = (args.teacher, args.student, args.methods, args.seeds)
        plan = plan_methods(*chosen, folder, options, settings, args.teacher_labels)
        if args.finished:
            plan = finished(plan, folder)
        check_cases(runs_of(plan))
    if not args.finished:
        execute(runs_of(plan), resources)
    if args.longer_plain:
        plan = plan_longer(plan)
        if args.finished:
            plan = finished(plan, folder)
        else:
            execute([runs[LONGER] for runs in plan.values()], resources)
    command = shlex.join(["python", "tools/compare_methods.py", *(word for word in words if word != "--finished")])
    keep(plan, options, args.protocol, {"title": args.title or _TITLE, "command": command}, scores)
    write_page(kept(scores), args.out)
    print(f"{args.out}, from {scores}: {len(plan)} seed(s) of {len(next(iter(plan.values())))} runs")
