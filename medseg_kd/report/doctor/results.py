"""What a check of the machine found, and the table of checks.

Nothing but the standard library is imported before a check asks for it, so that one that fails hides no other.
"""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

OK, NOTE, BROKEN = "ok", "note", "broken"
Row = tuple[str, str, str]
"""Status, what was found, and the command or the step that mends it."""
Check = Callable[[Any], Iterator[Row]]
CHECKS: dict[str, tuple[Check, str]] = {}


@dataclass(frozen=True)
class Result:
    """What a check found: ``status`` is ``OK``, ``NOTE`` (it works, but) or ``BROKEN``."""

    name: str
    status: str
    found: str
    remedy: str = ""


def examine(cfg: Any = None) -> list[Result]:
    """Run all checks; one that fails in any way is a result, too.

    Args:
        cfg: Config of a run, for its run folder and its data.
    """
    results: list[Result] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, (check, remedy) in CHECKS.items():
            try:
                for row in check(cfg):
                    results.append(Result(name, *row))
            except Exception as error:
                text, kind = " ".join(str(error).split())[-300:], type(error).__name__
                if kind == "UserError":  # which tells the remedy
                    results.append(Result(name, BROKEN, text))
                elif isinstance(error, ModuleNotFoundError) and any(each.status == BROKEN for each in results):
                    results.append(Result(name, NOTE, f"not looked at before what is broken above is mended: {text}"))
                else:
                    results.append(Result(name, BROKEN, f"{kind}: {text}", remedy))
    return results


def doctor_page(results: list[Result]) -> str:
    """The results, a line each, and a further one for what mends them."""
    lines = []
    for each in results:
        lines.append(f"{each.status:<7} {each.name:<15} {each.found}")
        lines += [f"{'':<8}{'':<15} -> {each.remedy}"] if each.remedy else []
    broken = sum(each.status == BROKEN for each in results)
    return "\n".join([*lines, f"{broken} broken" if broken else "nothing is broken"])


def check(name: str, remedy: str = "pip install -r requirements.txt") -> Callable[[Check], Check]:
    """Enter a check; ``remedy`` is told where it raises an error."""

    def enter(check: Check) -> Check:
        CHECKS[name] = check, remedy
        return check

    return enter
