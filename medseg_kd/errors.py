"""The one exception for a user's mistake, shown as a single message without a traceback, and the words of messages."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A wrong input: says what was found, where, what was expected and what to do."""


def first_line(error: BaseException) -> str:
    """The first line of an error's message; its type where it has none."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def last_line(error: BaseException) -> str:
    """The last line of an error's message, where libraries written in C++ say what happened; its type without one."""
    return next(reversed(str(error).strip().splitlines()), "").strip() or type(error).__name__


def did_you_mean(name: str, known: Iterable[str], otherwise: str = "", in_lines: bool = False) -> str:
    """The end of a message about an unknown name: ``; did you mean a or b?``, or ``otherwise`` where none is near.

    ``in_lines`` gives each known name a line of its own, for long ones.
    """
    near = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    if not near:
        return otherwise
    return "; did you mean" + ("".join(f"\n    {each}" for each in near) if in_lines else f" {' or '.join(near)}?")
