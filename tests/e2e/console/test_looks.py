"""How the pages look, and whether everybody can use them: without a mouse, without good eyes, on a telephone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from libs.testing.platform import RunningPlatform
from tests.e2e.console.conftest import PATIENCE, Watched
from tests.e2e.console.test_console import PAGES

pytestmark = pytest.mark.heavy

AXE = next((Path(__file__).parent / "vendor").glob("axe-*.min.js"))
RULES = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")
LOOKS: Final[dict[str, tuple[Literal["light", "dark"], tuple[int, int]]]] = {
    "light": ("light", (1280, 900)),
    "dark": ("dark", (1280, 900)),
    "telephone": ("light", (375, 812)),
}
LETTERS: Final = {
    "b": "/batches",
    "q": "/quality",
    "e": "/events",
    "u": "/quarantine",
    "l": "/ledger",
    "d": "/data",
    "f": "/",
}
MORE = ("/nothing", "/events?q=nothing", "/batches?status=blocked&sort=rows")

expect.set_options(timeout=PATIENCE)


@pytest.fixture(scope="module", autouse=True)
def busy(platform: RunningPlatform) -> None:
    """Something of everything: published, refused, rejected and, at last, blocked."""
    for run in (
        {"count": 400, "seed": 1, "faults": {"malformed": 0.03, "duplicate": 0.02, "negative": 0.01}},
        {"count": 300, "seed": 2, "faults": {"negative": 0.5}},
    ):
        address = f"{platform.urls['DRP_GENERATOR_URL']}/v1/runs"
        httpx.post(address, json=run, trust_env=False).raise_for_status()
        platform.run("batches", "wait", "--all")


@pytest.fixture
def checked(browser: Browser, platform: RunningPlatform) -> Iterator[Page]:
    """A page into which axe may be put: what it adds is not what the policy is about."""
    context = browser.new_context(bypass_csp=True, base_url=platform.urls["DRP_CONSOLE_URL"])
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    yield page
    context.close()


def looked_at(page: Page, look: str) -> None:
    scheme, (width, height) = LOOKS[look]
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": height})


def violations(page: Page) -> list[str]:
    """What axe finds wrong in the page as it is now: rule, help and the elements."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE.read_text())
    found: list[dict[str, Any]] = page.evaluate(
        "async (rules) => (await axe.run({ runOnly: rules, resultTypes: ['violations'] })).violations",
        list(RULES),
    )
    return [f"{one['id']}: {one['help']}: {[node['html'] for node in one['nodes'][:3]]}" for one in found]


def test_axe_finds_what_is_wrong(checked: Page) -> None:
    checked.goto("/")
    checked.evaluate(
        "document.querySelector('main').insertAdjacentHTML('beforeend', '<img src=\"/favicon.ico\">')"
    )
    assert [one.partition(":")[0] for one in violations(checked)] == ["image-alt"]


@pytest.mark.parametrize("path", [*PAGES, *MORE])
def test_axe_finds_nothing_wrong(checked: Page, path: str) -> None:
    checked.goto(path)
    checked.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    found: dict[str, list[str]] = {}
    for look in LOOKS:
        looked_at(checked, look)
        found[look] = violations(checked)
    assert found == {look: [] for look in LOOKS}


def test_axe_finds_nothing_wrong_when_a_server_is_away(checked: Page, platform: RunningPlatform) -> None:
    with platform.hanging("redis"):
        checked.goto("/")
        expect(checked.locator(".missing")).to_be_visible()
        assert violations(checked) == []


@pytest.mark.parametrize("path", PAGES)
def test_each_page_has_its_picture_in_light_dark_and_small(
    watched: Watched, path: str, tmp_path: Path
) -> None:
    page = watched.open(path)
    for look, (scheme, size) in LOOKS.items():
        looked_at(page, look)
        picture = page.screenshot(path=tmp_path / f"{look}.png", full_page=True)
        assert len(picture) > 10_000
        assert page.evaluate("document.documentElement.scrollWidth") == size[0]
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
        assert (max(ground) < 60) == (scheme == "dark")


def test_every_page_is_reached_by_two_keys(watched: Watched) -> None:
    page = watched.open()
    for letter, path in LETTERS.items():
        page.keyboard.press("g")
        page.keyboard.press(letter)
        page.wait_for_url(watched.url + path)


def test_rows_are_walked_and_opened_by_keys(watched: Watched) -> None:
    page = watched.open("/batches")
    for key, at in (("j", 0), ("j", 1), ("k", 0)):
        page.keyboard.press(key)
        expect(page.locator("table.batches tbody a").nth(at)).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_contain_text("Batch")


def test_the_search_takes_a_key_and_leads_to_an_orders_life(watched: Watched) -> None:
    page = watched.open("/events")
    key = page.locator("table.tail td.id").filter(has_text="G-").first.inner_text()
    page.goto(watched.url + "/batches")
    page.keyboard.press("/")
    expect(page.locator("#q")).to_be_focused()
    page.keyboard.type(f"{key}")
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_contain_text(key)
    expect(page.locator(".life li").first).to_contain_text("published")


def test_the_keys_are_told_and_close_again(watched: Watched) -> None:
    page = watched.open()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.get_by_role("button", name="Keys").click()
    expect(page.get_by_role("dialog")).to_be_visible()


def test_what_is_written_into_a_field_is_no_key(watched: Watched) -> None:
    page = watched.open("/batches")
    page.keyboard.press("/")
    page.keyboard.type("gb?j")
    expect(page.locator("#q")).to_have_value("gb?j")
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_a_refused_event_is_found_by_its_cause_and_shown_when_asked(watched: Watched) -> None:
    page = watched.open()
    page.get_by_role("link", name="events that were not taken").click()
    cause = page.locator("table.causes tbody a").first
    reason = cause.inner_text()
    cause.click()
    expect(page.locator("select[name=reason]")).to_have_value(reason)
    page.locator("section[aria-labelledby=events-title] tbody th a").first.click()
    expect(page.locator("h1")).to_have_text(re.compile(r"Event \d+"))
    expect(page.locator("p.states")).to_contain_text(reason)
    expect(page.locator("pre.document")).to_have_count(0)
    page.get_by_role("link", name="Show it").click()
    expect(page.locator("pre.document").first).to_be_visible()


def test_a_broken_rule_in_the_map_leads_to_the_rows_that_break_it(watched: Watched) -> None:
    page = watched.open("/quality")
    expect(page.locator(".gate .verdict")).to_contain_text("is blocked by amount_not_negative")
    page.get_by_role("link", name=re.compile(r"^amount_not_negative, generation \d+: fail")).last.click()
    expect(page.locator("select[name=rule]")).to_have_value("amount_not_negative")
    expect(
        page.get_by_role("heading", name=re.compile("^Rows that break amount_not_negative"))
    ).to_be_visible()
    expect(page.get_by_text("•••••").first).to_be_visible()
    page.get_by_role("link", name="Show them").click()
    expect(page.get_by_text("•••••")).to_have_count(0)
