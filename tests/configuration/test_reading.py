"""Configs in the ways of MMEngine's users."""

from pathlib import Path

import pytest
from mmengine.config import Config

from medseg_kd.configuration import read_config, settle_imports
from medseg_kd.errors import UserError
from medseg_kd.registry import HOOKS

STYLES = ["", "from mmengine.config import read_base\nwith read_base():\n    from .base import *\n"]


@pytest.mark.parametrize("style", STYLES)
def test_custom_imports_are_imported_in_both_styles(tmp_path: Path, monkeypatch, style: str) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    name = f"hooks_of_style_{STYLES.index(style)}"
    (tmp_path / "base.py").write_text("x = 1\n")
    (tmp_path / f"{name}.py").write_text(
        "from mmengine.hooks import Hook\nfrom mmengine.registry import HOOKS\n"
        f"HOOKS.register_module(module=type('{name}', (Hook,), {{}}))\n"
    )
    (tmp_path / "mine.py").write_text(f"{style}custom_imports = dict(imports=['{name}'])\n")
    read_config(tmp_path / "mine.py")
    assert HOOKS.get(name).__name__ == name
    (tmp_path / "mine.py").write_text(f"{style}custom_imports = dict(imports=['absent_module'])\n")
    with pytest.raises(UserError, match=r"mine.py cannot be read as a config: ImportError: Failed to import"):
        read_config(tmp_path / "mine.py")


@pytest.mark.parametrize("given", ["['my_hooks']", "dict(import_=['my_hooks'])"])
def test_custom_imports_of_another_form(tmp_path: Path, given: str) -> None:
    (tmp_path / "base.py").write_text("x = 1\n")
    (tmp_path / "mine.py").write_text(f"{STYLES[1]}custom_imports = {given}\n")
    with pytest.raises(UserError, match=r"mine.py: custom_imports is .*, expected dict\(imports="):
        read_config(tmp_path / "mine.py")


def test_modules_that_a_config_imports_are_no_part_of_it(tmp_path: Path) -> None:
    (tmp_path / "base.py").write_text("x = 1\n")
    (tmp_path / "mine.py").write_text(f"{STYLES[1]}import os\ny = os.sep\n")
    assert "os" not in read_config(tmp_path / "mine.py")
    cfg = Config.fromfile(tmp_path / "mine.py")
    settle_imports(cfg)
    assert "os" not in cfg and cfg.y == "/"


def test_configs_of_mmsegmentation_are_found(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("_base_ = ['mmseg::_base_/models/fcn_unet_s5-d16.py']\n")
    assert read_config(tmp_path / "mine.py").model.type == "EncoderDecoder"


def test_a_part_that_contains_itself(tmp_path: Path) -> None:
    (tmp_path / "base.py").write_text("x = dict(y=1)\n")
    (tmp_path / "mine.py").write_text(f"{STYLES[1]}x.update(y=dict(z=x))\nx.update(y=dict(z=x))\nx['y']['z'] = x\n")
    with pytest.raises(UserError, match="mine.py, line 5: RecursionError"):
        read_config(tmp_path / "mine.py")
