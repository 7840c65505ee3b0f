"""Hook of mkdocs.yml: formulas become MathML, which browsers show without a script or a font from elsewhere."""

import re
from html import unescape

from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from mkdocs.exceptions import PluginError
from mkdocs.structure.pages import Page

FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)


def on_page_content(html: str, page: Page, **_: object) -> str:
    """Replace what pymdownx.arithmatex marked."""

    def mathml(found: re.Match[str]) -> str:
        block = found[1] == "div"
        try:
            formula = tex2mathml(unescape(found[2]), as_block=block)
        except MathError as error:
            raise PluginError(f"{page.file.src_uri}: {unescape(found[2])!r}: {error}") from error
        return f'<div style="overflow-x: auto">{formula}</div>' if block else formula

    return FORMULA.sub(mathml, html)
