"""Text files that tell of data: lists and JSON, and the names of files in them."""

import re
from collections.abc import Iterable
from typing import Any

from medseg_kd.text_files import read_json, read_text, typed

__all__ = ["is_plain_name", "read_json", "read_text", "split_ending", "typed"]

_LEADS_AWAY = re.compile(r"[/\\\x00-\x1f\x7f]|^[A-Za-z]:|^\.{0,2}$")


def is_plain_name(name: Any) -> bool:
    """Whether a text is the name of a file or a case on any system, and leads to no other folder."""
    return isinstance(name, str) and not _LEADS_AWAY.search(name)


def split_ending(name: str, endings: Iterable[str]) -> tuple[str, str]:
    """A file's name and the first of these endings (in small letters) that it has, in its own letters; "" if none."""
    ending = next((each for each in endings if name.lower().endswith(each)), "")
    place = len(name) - len(ending)
    return name[:place], name[place:]
