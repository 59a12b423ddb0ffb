"""/data in a browser: what somebody types there is theirs, whatever is published meanwhile."""

from __future__ import annotations

import httpx
import pytest
from playwright.sync_api import expect

from libs.testing.platform import RunningPlatform
from tests.e2e.console.conftest import PATIENCE, Watched

pytestmark = pytest.mark.heavy

expect.set_options(timeout=PATIENCE)


def publish(platform: RunningPlatform, count: int) -> None:
    run = {"count": count, "seed": count}
    httpx.post(f"{platform.urls['DRP_GENERATOR_URL']}/v1/runs", json=run, trust_env=False).raise_for_status()
    platform.drp("batches", "wait", "--all")


def test_a_question_outlives_a_renewal_of_the_page_and_is_asked_with_the_keyboard(
    watched: Watched, platform: RunningPlatform
) -> None:
    publish(platform, 100)
    page = watched.open("/data")
    expect(page.locator(".plot canvas")).to_be_visible()
    before = page.locator("dl.counts").inner_text()
    page.get_by_label("A query").fill("SELECT 40 + 2 AS answer")
    publish(platform, 101)
    expect(page.locator("dl.counts")).not_to_have_text(before)
    assert page.get_by_label("A query").input_value() == "SELECT 40 + 2 AS answer"
    page.get_by_label("A query").press("Control+Enter")
    expect(page.get_by_role("heading", name="1 row in")).to_be_visible()
    expect(page.locator("table.values td")).to_have_text("42")


def test_a_mart_is_downloaded(watched: Watched) -> None:
    page = watched.open("/data")
    with page.expect_download() as downloading:
        page.get_by_role("link", name="CSV").click()
    assert downloading.value.suggested_filename.startswith("orders-daily_order_metrics-gen-")
    with downloading.value.path().open() as file:
        assert "order_date" in file.readline()
