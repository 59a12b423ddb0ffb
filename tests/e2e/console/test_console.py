"""The console in a browser, on a platform that runs: each test goes on where the one before it ended."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, expect

from libs.testing.platform import RunningPlatform
from tests.e2e.console.conftest import JAEGER, PATIENCE, Watched

REAL_ORDERS = Path(__file__).parents[2] / "data" / "cdnow_orders.csv.gz"
PAGES = (
    "/",
    "/batches",
    "/batches/last",
    "/quality",
    "/events",
    "/events?q=last",
    "/quarantine",
    "/ledger",
    "/ledger/last",
    "/data",
    "/data?sql=SELECT+1",
)

pytestmark = pytest.mark.heavy

expect.set_options(timeout=PATIENCE)


def of_one_life(page: Page) -> None:
    """Leave something in the page that a reload would take away."""
    page.evaluate("window.sameLife = true")


def lives(page: Page) -> bool:
    return bool(page.evaluate("window.sameLife === true"))


def test_an_empty_platform_shows_how_to_begin_and_copies_it(watched: Watched) -> None:
    watched.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = watched.open()
    expect(page.get_by_text("Nothing was published yet.")).to_be_visible()
    page.get_by_role("button", name=re.compile("^Copy drp publish")).click()
    expect(page.get_by_text("Copied")).to_be_visible()
    assert "drp publish --file" in page.evaluate("navigator.clipboard.readText()")


@pytest.mark.parametrize("path", ["/", "/batches", "/quality", "/events", "/quarantine", "/ledger", "/data"])
def test_every_page_comes_though_nothing_was_published(watched: Watched, path: str) -> None:
    page = watched.open(path)
    expect(page.locator("h1")).to_have_count(1)
    expect(page.locator(".missing")).to_have_count(0)


def test_what_is_published_appears_without_a_reload(watched: Watched, platform: RunningPlatform) -> None:
    page = watched.open()
    of_one_life(page)
    platform.drp("publish", "--file", str(REAL_ORDERS))
    expect(page.locator(".sum .whole dd")).to_have_text("69,659")
    expect(page.get_by_text("up to date")).to_be_visible()
    expect(page.locator(".figure .huge")).to_have_text("0")
    expect(page.locator(".plot canvas")).to_be_visible()
    assert lives(page)


def test_a_blocked_generation_is_seen_and_its_cause_is_found_by_clicking(
    watched: Watched, platform: RunningPlatform
) -> None:
    page = watched.open()
    of_one_life(page)
    run = {"count": 200, "seed": 1, "faults": {"negative": 0.5}}
    httpx.post(f"{platform.urls['DRP_GENERATOR_URL']}/v1/runs", json=run, trust_env=False).raise_for_status()
    page.get_by_role("link", name="batches that the quality gate blocks").click()
    page.locator("table.batches tbody a").click()
    expect(page.get_by_text("The rule amount_not_negative is broken")).to_be_visible()
    expect(page.get_by_role("row", name=re.compile("amount_not_negative .*fail"))).to_be_visible()
    page.get_by_role("link", name="Show them").click()
    expect(page.get_by_text("•••••")).to_have_count(0)
    page.get_by_role("link", name="Verify").click()
    expect(page.get_by_text("same, byte for byte").first).to_be_visible()


def test_a_batch_s_trace_is_a_click_from_where_there_is_a_jaeger(watched: Watched) -> None:
    page = watched.open("/batches/last")
    page.get_by_text(re.compile("^Its trace:")).click()
    link = page.get_by_role("link", name="The same in Jaeger")
    expect(link).to_have_attribute("href", re.compile(rf"^{JAEGER}/trace/[0-9a-f]{{32}}$"))


def test_what_was_opened_stays_open_when_the_page_is_renewed(
    watched: Watched, platform: RunningPlatform
) -> None:
    page = watched.open("/batches/last")
    of_one_life(page)
    page.get_by_text("As a table").click()
    drawn = page.locator("#page").get_attribute("data-at")
    batch = page.locator("h1 .id").inner_text()
    platform.drp("batches", "hold", batch, "--reason", "half of it is negative", "--yes")
    expect(page.locator(".states")).to_contain_text("held")
    assert page.locator("#page").get_attribute("data-at") != drawn
    assert page.locator("details[open]").count() == 1
    assert lives(page)


def test_of_ten_tabs_one_listens_and_all_are_live(watched: Watched) -> None:
    tabs = [watched.open("/batches") for _ in range(10)]
    for tab in tabs:
        expect(tab.locator("#chip")).to_have_text("Live")
    assert watched.asked("/live") == 1
    tabs.pop(0).close()
    tabs[3].bring_to_front()
    for tab in tabs:
        expect(tab.locator("#chip")).to_have_text("Live")


def test_when_redis_hangs_the_page_says_so_and_comes_back(
    watched: Watched, platform: RunningPlatform
) -> None:
    page = watched.open()
    expect(page.locator("#chip")).to_have_text("Live")
    of_one_life(page)
    with platform.hanging("redis"):
        expect(page.locator(".missing")).to_contain_text("Redis can't be asked.")
    expect(page.locator(".missing")).to_have_count(0)
    assert lives(page)


@pytest.mark.parametrize(
    ("server", "path", "says"),
    [
        ("redis", "/events", "Redis can't be asked."),
        ("postgres", "/batches", "Postgres can't be asked."),
        ("objects", "/batches/last?verify=true", "The object store can't be asked."),
        ("traces", "/batches/last", "The trace store can't be asked."),
    ],
)
def test_with_a_server_away_every_page_comes_and_says_what_is_missing(
    watched: Watched, platform: RunningPlatform, server: str, path: str, says: str
) -> None:
    page = watched.open()
    page.set_default_timeout(2 * PATIENCE)
    with platform.hanging(server):
        for each in PAGES:
            page.goto(watched.url + each)
            expect(page.locator("h1")).to_have_count(1)
        page.goto(watched.url + path)
        expect(page.locator(".missing")).to_contain_text(says)
    page.goto(watched.url + path)
    expect(page.locator(".missing")).to_have_count(0)


def test_an_answer_that_is_no_page_leaves_what_is_shown_and_the_page_comes_back(
    watched: Watched, platform: RunningPlatform
) -> None:
    page = watched.open("/batches")
    of_one_life(page)
    expect(page.locator("#chip")).to_have_text("Live")
    drawn = page.locator("#page").get_attribute("data-at")
    page.route("**/batches", lambda route: route.fulfill(status=502, body="Bad Gateway"))
    run = {"count": 20, "seed": 2}
    httpx.post(f"{platform.urls['DRP_GENERATOR_URL']}/v1/runs", json=run, trust_env=False).raise_for_status()
    expect(page.locator("#chip")).to_have_text("Reconnecting")
    expect(page.locator("h1")).to_have_count(1)
    assert page.locator("#page").get_attribute("data-at") == drawn
    page.unroute("**/batches")
    expect(page.locator("#chip")).to_have_text("Live")
    expect(page.locator("#page")).not_to_have_attribute("data-at", drawn or "")
    assert lives(page)
    assert all("502" in each for each in watched.wrong)
    watched.wrong.clear()


def test_a_tab_that_was_refused_the_news_asks_for_them_again(watched: Watched) -> None:
    watched.context.route("**/live", lambda route: route.fulfill(status=503, body="not now"))
    page = watched.open("/batches")
    with page.expect_event("response", lambda response: response.status == 503):
        pass
    expect(page.locator("#chip")).to_have_text("Reconnecting")
    watched.context.unroute("**/live")
    expect(page.locator("#chip")).to_have_text("Live")
    assert all("503" in each for each in watched.wrong)
    watched.wrong.clear()


@pytest.mark.parametrize("path", PAGES)
def test_without_scripts_every_page_says_the_same(watched: Watched, path: str) -> None:
    browser = watched.context.browser
    assert browser is not None
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(watched.url + path)
    expect(page.locator("h1")).to_have_count(1)
    expect(page.locator("main .missing")).to_have_count(0)
    expect(page.locator("#chip")).to_contain_text("As of")
    context.close()
