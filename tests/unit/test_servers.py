"""Where the tests' servers come from: what may be asked for, and what is told before the first test."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.servers import IMAGES, check, chosen

COMPOSE = Path(__file__).parents[2] / "docker-compose.yml"

EMBEDDED = {"redis": "embedded", "postgres": "embedded", "s3": "embedded"}


def test_one_word_is_for_all_and_each_may_have_its_own() -> None:
    assert chosen("") == chosen("embedded") == EMBEDDED
    assert chosen("urls") == dict.fromkeys(EMBEDDED, "urls")
    assert chosen("containers, s3=embedded") == {**dict.fromkeys(EMBEDDED, "containers"), "s3": "embedded"}
    assert chosen("redis=urls") == {**EMBEDDED, "redis": "urls"}


@pytest.mark.parametrize("text", ["docker", "redis=docker", "kafka=urls", "=urls", "redis="])
def test_what_can_not_be_had_is_refused_with_what_to_write(text: str) -> None:
    with pytest.raises(pytest.UsageError, match="write embedded, containers, urls"):
        chosen(text)


def test_a_url_that_is_not_given_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DRP_TEST_POSTGRES_URL", raising=False)
    monkeypatch.setenv("DRP_TEST_REDIS_URL", "redis://somewhere")
    check(chosen("redis=urls"))
    with pytest.raises(pytest.UsageError, match=r"set DRP_TEST_POSTGRES_URL$"):
        check(chosen("redis=urls,postgres=urls"))


def test_an_engine_that_does_not_answer_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "nowhere://")
    with pytest.raises(pytest.UsageError, match="no container engine answers"):
        check(chosen("containers"))


@pytest.mark.parametrize("server", IMAGES)
def test_the_containers_are_of_the_images_that_compose_runs(server: str) -> None:
    setting, image = IMAGES[server]
    assert f"image: ${{{setting}:-{image}}}\n" in COMPOSE.read_text()
