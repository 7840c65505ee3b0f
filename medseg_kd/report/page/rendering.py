"""Pages in one file: what all of them have in common."""

import base64
import hashlib
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from medseg_kd import __version__

LIMIT = 10_000_000
"""Bytes of a page."""
_PAGES = Environment(
    loader=PackageLoader("medseg_kd.report.page"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
)


def rendered(template: str, **content: Any) -> str:
    """The text of a page that asks nothing of a network: styles and script are in it, and nothing else may run."""
    style, script = (_PAGES.loader.get_source(_PAGES, name)[0] for name in ("page.css", "page.js"))  # type: ignore[union-attr]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    parts = {"style": Markup(style), "script": Markup(script), "digest": digest, "version": __version__}
    return _PAGES.get_template(template).render(**content, **parts)
