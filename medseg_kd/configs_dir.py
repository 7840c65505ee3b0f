"""Where the configs lie: beside the package in a clone, inside it in a wheel. Nothing is imported to find one."""

from pathlib import Path

from medseg_kd.errors import UserError, did_you_mean


def configs_dir() -> Path:
    """``configs/`` of the clone that holds this package, else of the installed wheel; a UserError if neither exists."""
    package = Path(__file__).resolve().parent
    candidates = (package.parent / "configs", package / "configs")
    for folder in candidates:
        if (folder / "_base_").is_dir():
            return folder
    raise UserError(
        f"The configs of medseg_kd are missing: neither {candidates[0]} nor {candidates[1]} holds a folder _base_. "
        "Install the project again with `pip install -e .` in a full clone."
    )


def find_config(name: str) -> Path:
    """A config by its path, from here or from the packaged configs; a UserError with the nearest ones without it."""
    path = Path(name)
    if path.is_file():
        return path
    packaged = configs_dir() / Path(*path.parts[1:] if path.parts[:1] == ("configs",) else path.parts)
    if packaged.is_file():
        return packaged
    names = [found.as_posix() for found in Path("configs").rglob("*.py") if "_base_" not in found.parts]
    raise UserError(f"config not found: {name}{did_you_mean(path.as_posix(), names, in_lines=True)}")
