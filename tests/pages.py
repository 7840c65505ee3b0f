"""What a reader finds in a page of the documentation: headings, code blocks, links, tables, as GitHub parses them."""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[1]
PARSER = MarkdownIt("commonmark").enable("table")
PAIRS = {"README.md": "README_zh-CN.md"} | {
    path.relative_to(ROOT).as_posix(): path.with_suffix(".zh.md").relative_to(ROOT).as_posix()
    for path in sorted(ROOT.glob("docs/**/*.md"))
    if not path.name.endswith(".zh.md")
}


@dataclass(frozen=True)
class Code:
    kind: str  # what stands after the fence; "" of an indented block
    text: str
    line: int  # of the page, from 1


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


@cache
def tokens(page: str) -> list[Token]:
    return PARSER.parse(read(page))


def codes(page: str) -> list[Code]:
    found = [token for token in tokens(page) if token.type in ("fence", "code_block")]
    return [Code(token.info.strip(), token.content, token.map[0] + 1) for token in found]


@cache
def headings(page: str) -> list[tuple[str, str]]:
    """Level (``h1``) and anchor of each heading; the anchor is GitHub's."""
    found, parsed = [], tokens(page)
    for token, inline in zip(parsed, parsed[1:], strict=False):
        if token.type == "heading_open":
            words = "".join(each.content for each in inline.children)
            found.append((token.tag, re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")))
    return found


def sections(page: str) -> list[list[Token]]:
    """The inline tokens under each heading, first those before any."""
    found: list[list[Token]] = [[]]
    for token in tokens(page):
        if token.type == "heading_open":
            found.append([])
        if token.type == "inline":
            found[-1].append(token)
    return found


def links(page: str) -> list[str]:
    """Where the links and pictures of a page lead to."""
    pieces = [child for section in sections(page) for token in section for child in token.children]
    return [str(each.attrs.get("href") or each.attrs["src"]) for each in pieces if each.type in ("link_open", "image")]


def tables(page: str) -> list[list[list[str]]]:
    """Tables, rows, cells as they are written."""
    found: list[list[list[str]]] = []
    for token, inline in zip(parsed := tokens(page), parsed[1:], strict=False):
        if token.type == "table_open":
            found.append([])
        elif token.type == "tr_open":
            found[-1].append([])
        elif token.type in ("th_open", "td_open"):
            found[-1][-1].append(inline.content)
    return found
