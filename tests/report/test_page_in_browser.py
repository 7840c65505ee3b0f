"""A browser without a window opens the pages and uses them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from medseg_kd.cli.report import main
from tests.report.conftest import CASE, ORGANS

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (requirements-dev.txt)")
from report_screenshots import ARGUMENTS, CHROMIUM  # noqa: E402

if not Path(CHROMIUM).is_file():
    pytest.skip(f"there is no {CHROMIUM} (apt-get install chromium)", allow_module_level=True)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        launched = started.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        yield launched
        launched.close()


@pytest.fixture
def opened(browser: Any) -> Iterator[Any]:
    """Opens a page of a file; what it complains of, or asks of others, is an error in the end."""
    pages, wrong = [], []

    def open_page(file: Path, **options: Any) -> Any:
        page = browser.new_page(**options)
        page.on("console", lambda message: wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda asked: asked.url.startswith(("data:", file.as_uri())) or wrong.append(asked.url))
        page.goto(file.as_uri())
        page.wait_for_selector("#viewer[data-drawn]")
        pages.append(page)
        return page

    yield open_page
    assert not wrong and not any(page.evaluate("window.hacked") for page in pages)
    for page in pages:
        page.close()


def pixels(page: Any, panel: int = 1) -> str:
    return page.locator("#panels canvas").nth(panel).evaluate("canvas => canvas.toDataURL()")


def drawn_after(page: Any, act: Any) -> None:
    """Wait for the picture that an action asks for."""
    before = page.locator("#viewer").get_attribute("data-drawn")
    act()
    page.wait_for_function("before => document.querySelector('#viewer').dataset.drawn !== before", arg=before)


def test_a_run_is_looked_at(runs: list[Path], opened: Any) -> None:
    page = opened(runs[0] / "report.html", color_scheme="light")
    metrics = json.loads((runs[0] / "test/metrics.json").read_text(encoding="utf-8"))
    for protocol, table in metrics.items():
        scores = page.locator(f'[data-protocol="{protocol}"] table.scores')
        for row, (organ, values) in enumerate(table["per_class"].items()):
            line = scores.locator("tbody tr").nth(row)
            assert line.locator("th").inner_text() == organ == ORGANS[row]
            expected = ["-" if value is None else f"{value:.2f}" for value in values.values()]
            assert line.locator(".value").all_inner_texts()[: len(expected)] == expected
    assert page.locator(".tiles dd").first.inner_text() == f"{metrics['transunet']['mDice']:.2f}"

    # By the keyboard: another slice, then other layers and organs.
    slider, said = page.locator("#slice"), page.locator("#said")
    number, before = int(slider.input_value()), pixels(page)
    slider.focus()
    drawn_after(page, lambda: page.keyboard.press("ArrowLeft" if number else "ArrowRight"))
    assert f"slice {number if number else 2} of 4" in said.inner_text() and pixels(page) != before
    assert "prediction of teacher" in page.locator("#panels canvas").nth(1).get_attribute("aria-label")
    for switch in ("[data-layer=truth]", "[data-layer=prediction]", "[data-layer=errors]"):
        before = pixels(page)
        page.locator(switch).focus()
        drawn_after(page, lambda: page.keyboard.press("Space"))
        assert pixels(page) != before, switch
    drawn_after(page, lambda: page.locator("#none").click())
    assert "0 of 0 organ pixels wrong" in said.inner_text()
    before = pixels(page)
    drawn_after(page, lambda: page.get_by_label("liver", exact=True).check())
    assert pixels(page) != before and "0 of 0" not in said.inner_text()
    drawn_after(page, lambda: page.locator("#tabs input").last.check())
    assert "Shown of" in page.locator("#told").inner_text() and CASE in page.locator("#tabs").inner_text()

    paper = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(paper)
    page.locator("#theme").click()
    dark = page.evaluate(paper)
    assert dark != light and page.locator("#theme").inner_text() == "Light theme"
    assert opened(runs[0] / "report.html", color_scheme="dark").evaluate(paper) == dark


def test_it_is_read_on_a_phone_and_by_a_screen_reader(runs: list[Path], opened: Any) -> None:
    page = opened(runs[0] / "report.html", viewport={"width": 360, "height": 700})
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    assert page.evaluate("[...document.querySelectorAll('svg, canvas')].every(each => each.getAttribute('aria-label'))")
    assert page.evaluate("[...document.querySelectorAll('th')].every(each => each.scope)")
    assert page.evaluate("[...document.querySelectorAll('table')].every(each => each.caption)")
    page.emulate_media(media="print")
    assert not page.locator("#theme").is_visible() and page.locator("#panels canvas").first.is_visible()


def test_runs_are_compared(runs: list[Path], opened: Any, tmp_path: Path) -> None:
    main([*map(str, runs), "--out", str(tmp_path / "page.html")])
    page = opened(tmp_path / "page.html")
    assert page.locator("#panels figcaption").all_inner_texts() == ["truth", "teacher", "student <i>"]
    for row, run in enumerate(runs):
        metrics = json.loads((run / "test/metrics.json").read_text(encoding="utf-8"))["transunet"]
        cells = (
            page.locator("[data-protocol=transunet] table.compared tbody tr").nth(row).locator("td").all_inner_texts()
        )
        dice = [values["Dice"] for values in metrics["per_class"].values()]
        assert cells == [f"{value:.2f}" for value in (metrics["mDice"], metrics["mHD95"], *dice)]
    before = [pixels(page, panel) for panel in (1, 2)]
    drawn_after(page, lambda: page.locator("[data-layer=errors]").check())
    assert all(pixels(page, panel) != each for panel, each in zip((1, 2), before, strict=True))
