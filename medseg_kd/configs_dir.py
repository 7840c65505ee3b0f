"""Where the configs lie: beside the package in a clone, inside it in a wheel."""

from pathlib import Path

from medseg_kd.errors import UserError


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
