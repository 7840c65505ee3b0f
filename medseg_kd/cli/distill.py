"""``tools/distill.py``: writes the config of a teacher-student pair."""

import argparse
from pathlib import Path

from mmengine.config import Config

from medseg_kd.configuration import build_model, read_config, run_folder, segmentor_of
from medseg_kd.distill.pair_config import default_path, find_method, pair_config
from medseg_kd.errors import UserError
from medseg_kd.models.checkpoint import last_checkpoint


def main(argv: list[str] | None = None) -> None:
    """Writes a pair; see ``--help``.

    Raises:
        UserError: A config cannot be read, the two do not make a pair, or the file is already there.
    """
    parser = argparse.ArgumentParser(
        prog="distill.py",
        description="Writes the config that distils one segmentor into another, and says how to train it.",
    )
    parser.add_argument("--method", required=True, help="kd, at, dkd, dist, cwd or reviewkd")
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
    method, teacher, student = find_method(args.method), read_config(args.teacher), read_config(args.student)
    out = args.out or default_path(method, Path(teacher.filename), Path(student.filename))
    if out.suffix != ".py":
        raise UserError(f"--out {out}: the name of a config ends with .py")
    if out.exists() and not args.overwrite:
        raise UserError(f"{out} is already there: give --overwrite to replace it, or another --out")
    run = run_folder(teacher)
    paths = Path(teacher.filename), Path(student.filename), out
    _write(out, pair_config(method, *paths, run, _changes(teacher, student, out)))
    print(f"{out}: {method.stem}, {_network(teacher)} -> {_network(student)}\nnext:")
    if last_checkpoint(run) is None:
        print(f"    python train.py {teacher.filename}  # the teacher: {run} holds no checkpoint yet")
    print(f"    python train.py {out}")


def _changes(teacher: Config, student: Config, out: Path) -> list[str]:
    """What a pair must change of what it imports: of a pair the student is meant, and a run folder is not shared."""
    changes = [f'work_dir = "work_dirs/{out.stem}"'] if student.get("work_dir") else []
    for name, cfg in (("teacher", teacher), ("model", student)):
        if segmentor_of(cfg.model) is not cfg.model:
            changes.append(f'{name} = {name}["architecture"]')
    return changes


def _write(out: Path, text: str) -> None:
    """Write a config that was read and built under a temporary name first."""
    out.parent.mkdir(parents=True, exist_ok=True)
    draft = out.with_name(f"{out.stem}.draft.py")
    try:
        draft.write_text(text, encoding="utf-8")
        build_model(read_config(draft))
        draft.replace(out)
    finally:
        draft.unlink(missing_ok=True)


def _network(cfg: Config) -> str:
    """What a config calls its network."""
    model = segmentor_of(cfg.model)
    kind = model.get("network", model).get("type")
    return kind if isinstance(kind, str) else getattr(kind, "__name__", str(kind))
