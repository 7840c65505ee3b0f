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
_VIEWS = {"light": ("light", 1180, 1500), "dark": ("dark", 1180, 1500), "narrow": ("light", 390, 1500)}


def main(argv: Sequence[str] | None = None) -> None:
    """Write ``report_light.png``, ``report_dark.png`` and ``report_narrow.png``."""
    parser = argparse.ArgumentParser(prog="report_screenshots.py", description="Pictures of a report.")
    parser.add_argument("report", type=Path, help="report.html")
    parser.add_argument("--out", type=Path, default=Path("docs/images"), metavar="DIR")
    parser.add_argument("--browser", default=CHROMIUM, help="(default: %(default)s)")
    parser.add_argument("--from", dest="start", default="body", metavar="SELECTOR", help="element that is scrolled to")
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=args.browser, args=list(ARGUMENTS))
        for name, (scheme, width, height) in _VIEWS.items():
            page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)  # type: ignore[arg-type]
            page.goto(args.report.resolve().as_uri())
            page.wait_for_selector("#viewer[data-drawn]")
            page.locator(args.start).first.evaluate("element => element.scrollIntoView()")
            file = args.out / f"report_{name}.png"
            page.screenshot(path=file)
            Image.open(file).convert("RGB").quantize(128).save(file, optimize=True)  # a third of the bytes
            print(f"{file}: {file.stat().st_size} bytes")
        browser.close()


if __name__ == "__main__":
    run(main)
