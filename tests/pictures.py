"""The pictures of README and docs: `make demo` as it prints itself, and the console over what it left behind.

    python -m tests.pictures [--to FOLDER]

Tells the demo's story on a platform in a temporary folder, starts it again and looks at it in Chromium.
"""

from __future__ import annotations

import argparse
import html
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Final, Literal

from playwright.sync_api import Browser, sync_playwright

from libs.testing.platform import RunningPlatform

__all__ = ["PAGES", "main"]

ROOT: Final = Path(__file__).parents[1]
PAGES: Final = {"console": "/", "event": "/events?q=CDNOW-00021"}
"""By the picture's name. Each is there in light and in dark."""
SCHEMES: Final[tuple[Literal["light", "dark"], ...]] = ("light", "dark")
WIDTH, HEIGHT = 1200, 760
_STYLE: Final = (
    "body { margin: 0; background: #16191c; } "
    "pre { display: inline-block; margin: 0; padding: 22px 26px; color: #dfe3e6; "
    "font: 13px/1.5 'DejaVu Sans Mono', monospace; } b { color: #62c994; font-weight: 400; }"
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.pictures", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--to", type=Path, default=ROOT / "docs" / "images")
    folder = parser.parse_args().to
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        sys.stderr.write("no chromium on PATH: apt-get install chromium\n")
        return 1
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="drp-pictures-") as home, sync_playwright() as playwright:
        options = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=program, args=options)
        _taken(browser, Path(home), folder)
        browser.close()
    for picture in sorted(folder.glob("*.png")):
        sys.stdout.write(f"{picture}  {picture.stat().st_size / 1000:.0f} kB\n")
    return 0


def _taken(browser: Browser, home: Path, folder: Path) -> None:
    told = RunningPlatform(home / "unused").run("demo", "--folder", str(home))
    if told.returncode != 0:
        raise RuntimeError(told.stderr)
    _printed(browser, told.stderr + told.stdout, folder / "demo.png")
    platform = RunningPlatform(home / "demo")
    platform.start()
    try:
        for scheme in SCHEMES:
            _looked_at(browser, platform.urls["DRP_CONSOLE_URL"], scheme, folder)
    finally:
        platform.stop()


def _printed(browser: Browser, said: str, picture: Path) -> None:
    """The demo's own lines, to where it has measured: those are in its report, too."""
    lines = said.partition("\nmeasured\n")[0]
    text = html.escape(f"$ make demo\n{lines}".strip()).replace("\n  held ", "\n  <b>held</b> ")
    page = browser.new_page(device_scale_factor=1.25)
    page.set_content(f"<style>{_STYLE}</style><pre>{text}</pre>")
    page.locator("pre").screenshot(path=picture)
    page.close()


def _looked_at(browser: Browser, url: str, scheme: Literal["light", "dark"], folder: Path) -> None:
    context = browser.new_context(
        color_scheme=scheme, viewport={"width": WIDTH, "height": HEIGHT}, device_scale_factor=1.25
    )
    for name, path in PAGES.items():
        page = context.new_page()
        page.goto(url + path)
        page.locator("#chip[data-state=live]").wait_for()
        page.screenshot(path=folder / f"{name}-{scheme}.png")
        page.close()
    context.close()


if __name__ == "__main__":
    sys.exit(main())
