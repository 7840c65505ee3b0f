"""Tables in LaTeX."""

from collections.abc import Iterable, Sequence

_SPECIAL = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
_ESCAPES = str.maketrans({**_SPECIAL, **{character: f"\\{character}" for character in "&%$#_{}"}})


def escaped(text: str) -> str:
    """A text as LaTeX prints it."""
    return text.translate(_ESCAPES)


def tabular(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A ``tabular`` with the rules of booktabs, all columns but the first to the right; cells are LaTeX already."""
    head, *body = (" & ".join(line) + r" \\" for line in (header, *rows))
    begin = rf"\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}"
    rules = [begin, r"\toprule", head, r"\midrule", *body, r"\bottomrule", r"\end{tabular}"]
    return "\n".join([r"% needs \usepackage{booktabs}", *rules])
