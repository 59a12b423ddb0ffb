"""A browser that tells of all that should not be: errors, what the policy forbids, requests to other hosts."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, sync_playwright

from libs.testing.platform import RunningPlatform

TOLD_OF_VIOLATIONS = """
addEventListener("securitypolicyviolation", (event) => {
  console.error(`policy: ${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`);
});
"""
JAEGER = "http://jaeger.test:16686"
"""Where there would be one: a page links to it, and asks it nothing."""
PATIENCE = 120_000
"""Milliseconds that a page may take: what it waits for is the platform, on a machine that has other work, too."""


@dataclass
class Watched:
    """A browser's context and what went wrong in any of its pages."""

    context: BrowserContext
    url: str
    wrong: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def open(self, path: str = "/") -> Page:
        page = self.context.new_page()
        page.set_default_timeout(PATIENCE)
        page.on("console", self._said)
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on("request", self._requested)
        page.goto(self.url + path)
        return page

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.wrong.append(message.text)

    def asked(self, path: str) -> int:
        """How often that was asked for."""
        return sum(urlsplit(url).path == path for url in self.requests)

    def _requested(self, request: Request) -> None:
        self.requests.append(request.url)
        if urlsplit(request.url).netloc != urlsplit(self.url).netloc and not request.url.startswith("data:"):
            self.wrong.append(f"another host: {request.url}")


def chromium() -> str:
    found = shutil.which("chromium") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("no chromium on PATH: the console is NOT tested in a browser (apt-get install chromium)")
    return found


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Of one file: while Playwright lives its event loop counts as running, and other files' tests want their own."""
    program = chromium()
    with sync_playwright() as playwright:
        options = ["--no-sandbox"] if os.geteuid() == 0 else []
        launched = playwright.chromium.launch(executable_path=program, args=options)
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def platform(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPlatform]:
    """Made after the browser: without one nothing is started."""
    del browser
    running = RunningPlatform(tmp_path_factory.mktemp("console") / ".drp", {"DRP_TRACE_UI_URL": JAEGER})
    running.start()
    yield running
    running.stop()


@pytest.fixture
def watched(browser: Browser, platform: RunningPlatform) -> Iterator[Watched]:
    """Fails the test at its end if anything went wrong in a page of it."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.add_init_script(TOLD_OF_VIOLATIONS)
    seen = Watched(context, platform.urls["DRP_CONSOLE_URL"])
    yield seen
    context.close()
    assert seen.wrong == []
