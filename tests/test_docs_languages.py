"""The Chinese pages say what the English ones say: the same headings, code, links, tables and numbers."""

import re
from collections import Counter
from urllib.parse import unquote

import pytest
import yaml

from tests.pages import PAIRS, ROOT, codes, headings, links, read, sections, tables

ENGLISH = {chinese: english for english, chinese in PAIRS.items()}
NUMBER = re.compile(r"(?<![\w.])\d[\d,]*(?:\.\d+)?(?:e-?\d+)?")


@pytest.fixture(params=PAIRS)
def pair(request: pytest.FixtureRequest) -> tuple[str, str]:
    return request.param, PAIRS[request.param]


def place(page: str, link: str) -> tuple[str, int | str]:
    """The file that a local link leads to, and which of its headings, counted from 0."""
    path, _, anchor = unquote(link).partition("#")
    target = (ROOT / page).parent.joinpath(path).resolve().relative_to(ROOT).as_posix() if path else page
    if not anchor or not target.endswith(".md"):
        return target, anchor
    anchors = [name for _, name in headings(target)]
    assert anchor in anchors, f"{page}: {link} leads to no heading of {target}: expected one of {anchors}"
    return target, anchors.index(anchor)


def targets(page: str) -> list[tuple[str, int | str]]:
    """Where the links lead to, as the English page says it."""
    found = []
    for link in links(page):
        if "://" in link:
            found.append((in_english(link), ""))
            continue
        target, heading = place(page, link)
        if page in PAIRS.values() and target in PAIRS:
            assert (page, link) == ("README_zh-CN.md", "README.md"), f"{page}: {link} leads to the English page"
        found.append((ENGLISH.get(target, target), heading))
    return found


def in_english(address: str) -> str:
    return re.sub(r"/zh[-_]cn/", "/en/", address, flags=re.IGNORECASE)


def without_comments(text: str) -> list[str]:
    """Lines of code; comments are translated."""
    return [re.sub(r"(^|\s+)#.*", "", line).rstrip() for line in text.splitlines()]


def numbers(text: str) -> list[str]:
    """Numbers of two digits and more, without the commas of thousands."""
    found = [each.strip(",").replace(",", "") for each in NUMBER.findall(text)]
    return sorted(each for each in found if len(each) > 1)


def spans(text: str) -> set[str]:
    return {" ".join(span.split()) for span in re.findall(r"`+([^`]+)`+", text)}


def test_headings(pair: tuple[str, str]) -> None:
    english, chinese = ([level for level, _ in headings(page)] for page in pair)
    assert chinese == english


def test_code_blocks(pair: tuple[str, str]) -> None:
    english, chinese = (codes(page) for page in pair)
    assert [code.kind for code in chinese] == [code.kind for code in english]
    for theirs, ours in zip(chinese, english, strict=True):
        if ours.kind == "text":  # prose, such as a folder's layout
            assert theirs.text.count("\n") == ours.text.count("\n"), f"line {theirs.line}"
        else:
            assert without_comments(theirs.text) == without_comments(ours.text), f"line {theirs.line}"


def test_links(pair: tuple[str, str]) -> None:
    english, chinese = (targets(page) for page in pair)
    assert Counter(chinese) - Counter(english) == Counter(english) - Counter(chinese) == Counter()


def test_addresses(pair: tuple[str, str]) -> None:
    """Also of those that are no links, and those in code."""
    english, chinese = (re.findall(r"https?://[^\s)}>`\"'）]+", read(page)) for page in pair)
    assert Counter(in_english(each) for each in chinese) == Counter(english)


def test_tables(pair: tuple[str, str]) -> None:
    english, chinese = (tables(page) for page in pair)
    assert [[len(row) for row in table] for table in chinese] == [[len(row) for row in table] for table in english]
    for theirs, ours in zip(chinese, english, strict=True):
        for their_row, our_row in zip(theirs, ours, strict=True):
            for part in (numbers, spans):
                assert part(" | ".join(their_row)) == part(" | ".join(our_row)), their_row


def test_names_and_numbers_of_each_section(pair: tuple[str, str]) -> None:
    english, chinese = (sections(page) for page in pair)
    for number, (theirs, ours) in enumerate(zip(chinese, english, strict=True)):
        titles = [headings(page)[number - 1][1] if number else "(top)" for page in pair]
        texts = ["\n".join(token.content for token in section) for section in (theirs, ours)]
        for part in (spans, numbers):
            found, expected = (Counter(part(re.sub(r"\]\([^)]*\)", "]", text))) for text in texts)
            assert found == expected, f"section {titles}: only there {found - expected}, lacking {expected - found}"


class SiteLoader(yaml.SafeLoader):
    """Reads mkdocs.yml, which names a function of Python."""


SiteLoader.add_multi_constructor("tag:yaml.org,2002:python/", lambda *_: None)


def test_the_navigation_names_each_page_in_both_languages() -> None:
    config = yaml.load(read("mkdocs.yml"), SiteLoader)
    entries = list(config["nav"])
    titles, pages = set(), []
    while entries:
        ((title, target),) = entries.pop().items()
        titles.add(title)
        (pages.append if isinstance(target, str) else entries.extend)(target)
    assert sorted(f"docs/{page}" for page in pages) == sorted(PAIRS.keys() - {"README.md"})
    i18n = next(plugin["i18n"] for plugin in config["plugins"] if "i18n" in plugin)
    assert i18n["languages"][1]["nav_translations"].keys() == titles
