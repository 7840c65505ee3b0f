"""Text and JSON files, which may be of anybody."""

import json
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from pathlib import Path
from typing import Any

from medseg_kd.errors import UserError, first_line

MAX_TEXT = 64 << 20
"""Bytes of a text file, such as a list or a manifest."""


def read_text(path: Path) -> str:
    """A text in UTF-8, or in UTF-16 that says so by its first bytes."""
    try:
        if not path.is_file():
            raise UserError(f"{path} is no file: expected a text")
        with path.open("rb") as file:
            content = file.read(MAX_TEXT + 1)
        if len(content) > MAX_TEXT:
            raise UserError(f"{path} has more than {MAX_TEXT >> 20} MB, too much for a text. Is it another file?")
        return content.decode("utf-16" if content[:2] in (BOM_UTF16_LE, BOM_UTF16_BE) else "utf-8-sig")
    except UnicodeError as error:
        raise UserError(f"{path} is no text in UTF-8. Save it as UTF-8") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}). Check its permissions") from error


def read_json(path: Path, kind: type) -> Any:
    """Content of a JSON file, a dict or a list."""
    try:
        content = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is no JSON: {first_line(error)}. Copy it again") from error
    return typed(content, kind, str(path))


def typed(value: Any, kind: type, where: str) -> Any:
    """A value that is of a kind."""
    if not isinstance(value, kind):
        shown = repr(value)
        raise UserError(f"{where} is {shown if len(shown) < 200 else type(value).__name__}: expected a {kind.__name__}")
    return value
