"""Does distillation help? Teacher, plain student and distilled students, with several seeds."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from medseg_kd.configuration import load_run, parse_options, write_pair
from medseg_kd.distill.pair_config import find_method
from medseg_kd.errors import UserError
from medseg_kd.experiments.runs import Run, Settings

TEACHER, PLAIN, LONGER = "teacher", "plain student", "plain student, longer"
LABELS = "teacher's labels alone"
_NO_LOSS = "labels"
"""The distiller of ``LABELS``, by the name of its config."""

Plan = dict[int, dict[str, Run]]
"""For each seed its runs by name, in the order in which they can be executed: ``TEACHER``, ``PLAIN``, the methods, with
``LABELS`` among them where the teacher labels; then ``LONGER``, if it was asked for."""


def plan_methods(
    teacher: str,
    student: str,
    methods: Sequence[str],
    seeds: Sequence[int],
    folder: Path,
    method_options: Mapping[str, Sequence[str]] | None = None,
    settings: Settings | None = None,
    teacher_labels: bool = False,
) -> Plan:
    """The runs of a comparison, in ``folder``, into which the configs of the pairs are written.

    The student of a seed learns from the teacher of that seed; ``method_options`` are ``KEY=VALUE`` for the distiller.
    With ``teacher_labels`` the distilled students have the training cases without a label too, which the teacher labels
    (``teacher_labels`` of :class:`~medseg_kd.distill.SingleTeacherDistill`); one of them learns from these labels and
    its own, without a distillation loss, so that it is seen what a method adds.

    Raises:
        UserError: A config or an option of a run is wrong.
    """
    settings = settings or Settings()
    methods = [*([LABELS] if teacher_labels else []), *methods]
    configs = {}
    for name in methods:
        method = _NO_LOSS if name == LABELS else name
        out = folder / "configs" / f"{find_method(method).stem}.py"
        configs[name] = str(write_pair(method, teacher, student, out, overwrite=True).file)
    plan: Plan = {}
    for seed in seeds:
        seeded = f"randomness.seed={seed}"
        folders = {name: folder / _folder_of(name) / f"seed{seed}" for name in (TEACHER, PLAIN, *methods)}
        taught = Run(teacher, folders[TEACHER], settings, (seeded,))
        plan[seed] = {TEACHER: taught, PLAIN: Run(student, folders[PLAIN], settings, (seeded,))}
        for method, config in configs.items():
            options = [f"model.distiller.{option}" for option in (method_options or {}).get(method, ())]
            labels = ["model.teacher_labels=True"] if teacher_labels else []
            own = (f"model.teacher_ckpt={taught.work_dir}", *labels, *options, seeded)
            plan[seed][method] = Run(config, folders[method], settings, own, teacher=taught)
        for run in plan[seed].values() if len(plan) == 1 else (taught,):  # seeds differ in nothing else
            load_run(run.config, parse_options(run.options))
    return plan


def _folder_of(name: str) -> str:
    """Name of the folder of all seeds of a run."""
    return name.replace("'s", "").replace(" ", "_").lower()


def plan_longer(plan: Plan) -> Plan:
    """A trained plan, and for each seed the plain student trained for as long as the dearest method takes.

    The iterations follow from the seconds an iteration of the runs, in the median over the seeds; learning rates that
    end with the training end with the longer one.

    Raises:
        UserError: A run was too short for its log to tell what an iteration takes.
    """
    untold = [run for runs in plan.values() for run in runs.values() if math.isnan(run.facts["seconds_per_iteration"])]
    if untold:
        raise UserError(
            f"{untold[0].work_dir}: its log tells no time of an iteration, which --longer-plain goes by. Train for "
            "longer than default_hooks.logger.interval iterations, or set that lower"
        )
    taken = {
        name: statistics.median(runs[name].facts["seconds_per_iteration"] for runs in plan.values())
        for name in next(iter(plan.values()))
        if name != TEACHER
    }
    longer: Plan = {}
    for seed, runs in plan.items():
        plain = runs[PLAIN]
        cfg = load_run(plain.config, parse_options(plain.options))
        iterations = cfg.train_cfg.max_iters
        more = math.ceil(iterations * max(taken.values()) / taken[PLAIN])
        ends = [at for at, each in enumerate(cfg.param_scheduler) if each.get("end") == iterations]
        run = replace(
            plain,
            work_dir=plain.work_dir.parents[1] / f"plain_student_{more}" / f"seed{seed}",
            own=(*plain.own, f"train_cfg.max_iters={more}", *(f"param_scheduler.{at}.end={more}" for at in ends)),
        )
        longer[seed] = {**runs, LONGER: run}
    return longer


def runs_of(plan: Plan) -> list[Run]:
    """All runs of a plan, in the order in which they can be executed."""
    return [run for same in plan.values() for run in same.values()]


def finished(plan: Plan, folder: Path) -> Plan:
    """The seeds of a plan all of whose runs are tested; a :class:`UserError` where there is none."""
    if seeds := {seed: runs for seed, runs in plan.items() if all(run.is_tested for run in runs.values())}:
        return seeds
    raise UserError(f"{folder}: no seed is finished yet")
