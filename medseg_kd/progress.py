"""Progress of a long loop: a bar on a terminal, plain lines in a log."""

import sys
import time
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from typing import TypeVar

T = TypeVar("T")


def progress(items: Sequence[T], title: str, seconds: float = 5.0) -> Iterator[T]:
    """Yields the items and shows on stderr how many are done, in a log at most every so many ``seconds``."""
    if sys.stderr.isatty() and find_spec("rich"):
        from rich.console import Console
        from rich.progress import track

        yield from track(items, title, console=Console(stderr=True))
        return
    start = last = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - last >= seconds or done == len(items):
            print(f"{title}: {done}/{len(items)}, {now - start:.0f} s", file=sys.stderr, flush=True)
            last = now
