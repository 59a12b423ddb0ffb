"""An event's life, told: one sentence, and steps with the time between them."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

import pytest

from libs.operations.found import Life, Refusal
from services.console.domain.life import refusal_steps, refusal_told, steps, told, versions

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
BATCH = uuid.UUID(int=7)


def a_life(**values: object) -> Life:
    known: dict[str, object] = {
        "dataset": "orders",
        "key": "A-1",
        "source": "shop",
        "event_id": "1",
        "type": None,
        "event_time": NOON,
        "origin": "live",
        "producer_trace": None,
        "stream": "orders",
        "entry": "1767614400000-0",
        "position": 0,
        "published_at": NOON,
        "landed_at": NOON + timedelta(milliseconds=20),
        "raw_id": 12_345,
        "ingested_at": NOON,
        "batch": BATCH,
        "batch_status": "published",
        "batch_closed_at": NOON + timedelta(seconds=2),
        "trace": None,
        "place": "staged",
        "rules": [],
        "superseded_by": None,
        "generation": 4,
        "generation_published_at": NOON + timedelta(seconds=5),
        "object": "raw/x.jsonl.gz",
        "archived_at": NOON + timedelta(seconds=3),
    }
    return Life(**{**known, **values})  # type: ignore[arg-type]  # a builder's values are of any type


def a_refusal(**values: object) -> Refusal:
    life = a_life()
    known = {name: getattr(life, name) for name in Refusal.__struct_fields__ if hasattr(life, name)}
    own = {
        "number": 3,
        "disposition": "quarantined",
        "reason": "wrong_type",
        "detail": "amount: the text is no decimal",
        "field": "amount",
        "state": "open",
        "landed_at": NOON,
    }
    return Refusal(**{**known, **own, **values})


def test_each_step_says_how_long_it_took_after_what_it_waited_for() -> None:
    found = steps(a_life(), archives=True)
    assert [step.name for step in found] == ["published", "landed", "batch closed", "readable", "archived"]
    assert [step.after for step in found] == [None, 0.02, 1.98, 3.0, 1.0]
    assert all(step.done for step in found)


def test_what_has_not_come_is_not_done() -> None:
    open_batch = a_life(
        place="open",
        batch_closed_at=None,
        generation=None,
        generation_published_at=None,
        object=None,
    )
    assert [step.done for step in steps(open_batch, archives=True)] == [True, True, False, False, False]


def test_a_clock_that_lags_gives_no_negative_time() -> None:
    assert steps(a_life(landed_at=NOON - timedelta(seconds=1)), archives=True)[1].after == 0


@pytest.mark.parametrize(
    ("place", "sentence"),
    [
        ("staged", "Readers see it"),
        ("applied", "Generation 4 applied it"),
        ("rejected", "breaks amount_not_negative"),
        ("superseded", "A later version"),
        ("held", "held"),
        ("open", "takes more"),
        ("waiting", "readers don't see it yet"),
    ],
)
def test_every_place_has_its_sentence(place: str, sentence: str) -> None:
    assert sentence in told(a_life(place=place, rules=["amount_not_negative"]))


def test_of_a_rows_versions_the_one_that_counts_comes_first_then_the_newest() -> None:
    found = versions(
        [
            a_life(event_id="1", place="superseded", event_time=NOON),
            a_life(event_id="2", place="staged", event_time=NOON + timedelta(hours=1)),
            a_life(event_id="3", place="waiting", event_time=NOON + timedelta(hours=2)),
            a_life(event_id="4", key="A-2"),
        ]
    )
    assert [(row.key, [life.event_id for life in row.lives]) for row in found] == [
        ("A-1", ["2", "3", "1"]),
        ("A-2", ["4"]),
    ]


@pytest.mark.parametrize(
    ("state", "sentence"),
    [
        ("open", "kept until somebody settles it"),
        ("redriven", "published again"),
        ("discarded", "put it away"),
    ],
)
def test_what_was_not_taken_says_why_and_what_became_of_it(state: str, sentence: str) -> None:
    said = refusal_told(a_refusal(state=state))
    assert said.startswith("Quarantined, wrong_type (amount): ")
    assert sentence in said


def test_what_was_not_taken_leads_to_its_own_page() -> None:
    found = refusal_steps(a_refusal(), archives=True)
    assert [step.leads for step in found] == [None, "/quarantine/3", f"/batches/{BATCH}", None]
    assert found[1].tone == "bad"


def test_where_the_archive_is_off_the_life_ends_with_its_readers() -> None:
    assert [step.name for step in steps(a_life(object=None), archives=False)][-1] == "readable"
    assert [step.name for step in steps(a_life(), archives=False)][-1] == "archived"


def test_the_archive_follows_the_batch_and_may_be_before_readers() -> None:
    readable, archived = steps(a_life(), archives=True)[-2:]
    assert archived.at is not None
    assert readable.at is not None
    assert archived.at < readable.at
    assert (archived.after, readable.after) == (1.0, 3.0)


def test_what_is_held_is_seen_until_a_generation_leaves_it_out() -> None:
    seen, gone = a_life(place="held"), a_life(place="held", generation=None)
    assert (told(seen), told(gone)) == (
        "Its batch is held: readers see it until the next generation, which leaves it out.",
        "Its batch is held: somebody left it out of what readers see.",
    )
    assert [steps(life, archives=True)[3].says for life in (seen, gone)] == [
        "the next generation leaves it out",
        "left out of what readers see",
    ]
