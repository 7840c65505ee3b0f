"""A finding, and the lists that checks enter themselves in."""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

_Subject = TypeVar("_Subject")


@dataclass(frozen=True)
class Finding:
    """Something that is wrong, or odd, with a data set.

    Args:
        check: Name of the check.
        where: File, case or folder.
        found: What is there.
        expected: What should be there; empty where ``found`` says it.
        remedy: What to do.
        fault: It spoils a training; otherwise it may be meant.
    """

    check: str
    where: str
    found: str
    expected: str
    remedy: str
    fault: bool = True

    @classmethod
    def of_error(cls, check: str, error: Exception, files: Iterable[Any]) -> "Finding":
        """The parts of a message such as ``FILE: found, expected this. Remedy``.

        It begins with one of ``files``, or with one that has no blank in its name; else it is of the first of them.
        """
        text = " ".join(str(error).split())
        named = [*map(str, files), text.partition(" ")[0].rstrip(":,")]
        where = max((n for n in named if text.startswith(n) and Path(n).exists()), key=len, default=named[0])
        found, _, remedy = text.removeprefix(where).lstrip(":, ").partition(". ")
        found, *expected = re.split(r"[,:;]? expected ", found, maxsplit=1)
        return cls(
            check, where, found, "".join(expected).rstrip("."), remedy.rstrip(".") or "Correct or leave out the file"
        )


class Checks(Generic[_Subject]):
    """Checks of one kind of subject: generators of findings, each entered by :meth:`add` as its decorator."""

    def __init__(self) -> None:
        self._checks: list[Callable[[_Subject], Iterator[Finding]]] = []

    def add(self, check: Callable[[_Subject], Iterator[Finding]]) -> Callable[[_Subject], Iterator[Finding]]:
        """Enter a check."""
        self._checks.append(check)
        return check

    def __call__(self, subject: _Subject) -> list[Finding]:
        """What all checks find."""
        return [finding for check in self._checks for finding in check(subject)]
