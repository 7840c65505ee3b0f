"""``tools/compare_methods.py``: does distillation help? Teacher, plain student, distilled students, several seeds."""

import argparse
import contextlib
import io
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from medseg_kd.cli import distill
from medseg_kd.cli.experiments import NO_VALIDATION, Run, add_execution_arguments, execute, is_tested
from medseg_kd.cli.methods_page import PLAIN, TEACHER, Comparison, page
from medseg_kd.distill import METHODS
from medseg_kd.distill.pair_config import find_method
from medseg_kd.errors import UserError
from medseg_kd.evaluation.measures.base import PROTOCOLS

_TEACHER, _STUDENT = "configs/compare/teacher_headneck.py", "configs/compare/student_headneck.py"
KEPT_BELOW = "<!-- What stands below this line is kept when the page is made again. -->"


def main(argv: Sequence[str] | None = None) -> None:
    """Train and test everything that is not finished yet, then write the page.

    Args:
        argv: The arguments; None takes the command line's.

    Raises:
        UserError: An argument does not fit, or a run failed.
    """
    parser = argparse.ArgumentParser(
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
        "--finished", action="store_true", help="train nothing: make the page of the seeds that are finished"
    )
    add_execution_arguments(parser)
    words = list(sys.argv[1:] if argv is None else argv)
    args = parser.parse_args(words)
    options = _method_options(args.method_options, args.methods)
    folder = args.work_dir or Path("work_dirs/compare", Path(args.student).stem)
    plan = {seed: _runs(args, folder, seed, options) for seed in args.seeds}
    if args.finished:
        plan = {seed: runs for seed, runs in plan.items() if all(map(is_tested, runs.values()))}
        if not plan:
            raise UserError(f"{folder}: no seed is finished yet")
    else:
        execute([run for runs in plan.values() for run in runs.values()], args.jobs, args.threads)
    command = shlex.join(["python", "tools/compare_methods.py", *(word for word in words if word != "--finished")])
    text = page(Comparison(plan, options, args.protocol, command))
    _write(args.out, text)
    print(f"{args.out}: {len(plan)} seed(s) of {len(next(iter(plan.values())))} runs")


def _runs(args: argparse.Namespace, folder: Path, seed: int, options: dict[str, list[str]]) -> dict[str, Run]:
    """The runs of one seed by name: teacher, plain student, methods."""

    def run(name: str, config: str, *more: str, teacher: Run | None = None) -> Run:
        return Run(
            config=config,
            work_dir=folder / name.replace(" ", "_").lower() / f"seed{seed}",
            options=(*args.cfg_options, *more, f"randomness.seed={seed}", NO_VALIDATION),
            data_root=args.data_root,
            amp=args.amp,
            teacher=teacher,
        )

    teacher = run(TEACHER, args.teacher)
    runs = {TEACHER: teacher, PLAIN: run(PLAIN, args.student)}
    for method in args.methods:
        own = [f"model.distiller.{option}" for option in options.get(method, [])]
        pair = _pair(args, folder, method)
        runs[method] = run(method, pair, f"model.teacher_ckpt={teacher.work_dir}", *own, teacher=teacher)
    return runs


def _pair(args: argparse.Namespace, folder: Path, method: str) -> str:
    """Write the config of a pair."""
    out = folder / "configs" / f"{find_method(method).stem}.py"
    with contextlib.redirect_stdout(io.StringIO()):
        distill.main(
            ["--method", method, "--teacher", args.teacher, "--student", args.student, "--out", str(out), "--overwrite"]
        )
    return str(out)


def _method_options(given: Sequence[Sequence[str]], methods: Sequence[str]) -> dict[str, list[str]]:
    """Options of each method."""
    found: dict[str, list[str]] = {}
    for method, *options in given:
        if method not in methods:
            raise UserError(f"--method-options {method}: the methods are {', '.join(methods)}")
        if not options or any("=" not in option for option in options):
            raise UserError(f"--method-options {method} {' '.join(options)}: expected KEY=VALUE after the method")
        found.setdefault(method, []).extend(options)
    return found


def _write(out: Path, text: str) -> None:
    """Write the page; what a reader wrote below the mark stays."""
    kept = ""
    if out.is_file():
        kept = out.read_text(encoding="utf-8").partition(KEPT_BELOW)[2]
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(f"{text}\n{KEPT_BELOW}\n{kept.removeprefix(chr(10))}", encoding="utf-8")
