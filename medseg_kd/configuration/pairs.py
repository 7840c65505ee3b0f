"""The config of a teacher-student pair: written, read again and built."""

from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config

from medseg_kd.configuration.reading import brings_weights, build_model, model_of, read_config, segmentor_of
from medseg_kd.configuration.run_folder import run_folder
from medseg_kd.distill.pair_config import default_path, find_method, pair_config
from medseg_kd.errors import UserError
from medseg_kd.files import whole_file


@dataclass(frozen=True)
class Pair:
    """A pair whose config is written: its file, the method's name, and the two configs."""

    file: Path
    method: str
    teacher: Config
    student: Config


def write_pair(method: str, teacher: str, student: str, out: Path | None = None, overwrite: bool = False) -> Pair:
    """Write the config that distils one segmentor into another.

    Args:
        method: Name of the method, in any case.
        teacher: Its config.
        student: Its config, whose recipe is kept.
        out: Config to write; None: ``configs/distill/<method>/<method>_<teacher>_<student>.py``.
        overwrite: Replace it.

    Raises:
        UserError: A config cannot be read, the two do not make a pair, or the file is already there.
    """
    recipe, taught, learning = find_method(method), read_config(teacher), read_config(student)
    paths = Path(taught.filename), Path(learning.filename)
    out = out or default_path(recipe, *paths)
    if out.suffix != ".py":
        raise UserError(f"--out {out}: the name of a config ends with .py")
    if out.exists() and not overwrite:
        raise UserError(f"{out} is already there: give --overwrite to replace it, or another --out")
    # A run folder is not shared, and of a pair the student is meant.
    changes = [f'work_dir = "work_dirs/{out.stem}"'] if learning.get("work_dir") else []
    for name, cfg in (("teacher", taught), ("model", learning)):
        if segmentor_of(model_of(cfg)) is not cfg.model:
            changes.append(f'{name} = {name}["architecture"]')
    run = None if brings_weights(segmentor_of(model_of(taught))) else run_folder(taught)
    text = pair_config(recipe, *paths, out, run, changes)
    with whole_file(out) as draft:
        draft.write_text(text, encoding="utf-8")
        build_model(read_config(draft))
    return Pair(out, recipe.stem, taught, learning)
