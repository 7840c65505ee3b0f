"""``tools/dev/report_screenshots.py``: pictures of a report for the documentation, by a Chromium without a window."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from medseg_kd.cli import run

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_VIEWS = {
    "light": ("light", 1180, 1180, "body"),
    "dark": ("dark", 1000, 980, "#cases"),
    "narrow": ("light", 390, 1100, "#cases"),
}
"""Name of a picture to theme, width and height of the window, and what it is scrolled to."""


def main(argv: Sequence[str] | None = None) -> None:
    """Write ``report_light.png``, ``report_dark.png`` and ``report_narrow.png``."""
    parser = argparse.ArgumentParser(prog="report_screenshots.py", description="Pictures of a report.")
    parser.add_argument("report", type=Path, help="report.html")
    parser.add_argument("--out", type=Path, default=Path("docs/images"), metavar="DIR")
    parser.add_argument("--browser", default=CHROMIUM, help="(default: %(default)s)")
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=args.browser, args=list(ARGUMENTS))
        for name, (scheme, width, height, start) in _VIEWS.items():
            page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)  # type: ignore[arg-type]
            page.goto(args.report.resolve().as_uri())
            page.wait_for_selector("#viewer[data-drawn]")
            page.locator(start).evaluate("element => element.scrollIntoView()")
            file = args.out / f"report_{name}.png"
            page.locator("[data-layer=errors]").set_checked(name == "dark")
            page.wait_for_timeout(500)
            page.screenshot(path=file)
            _in_few_colours(Image.open(file).convert("RGB")).save(file, optimize=True)
            print(f"{file}: {file.stat().st_size} bytes")
        browser.close()


def _in_few_colours(picture: Image.Image) -> Image.Image:
    """A picture of a third of the bytes: the shades of the slices, and the colours that only a few pixels have."""
    shades, colours = Image.Quantize.MEDIANCUT, Image.Quantize.MAXCOVERAGE
    parts = [picture.quantize(count, kind).getpalette() or [] for kind, count in ((shades, 128), (colours, 128))]
    palette = Image.new("P", (1, 1))
    palette.putpalette([value for part in parts for value in part[: 3 * 128]])
    return picture.quantize(palette=palette, dither=Image.Dither.NONE)


if __name__ == "__main__":
    run(main)
