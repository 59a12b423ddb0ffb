"""Made-up orders: the seed fixes them, their ids never repeat, their faults are known to the event."""

from __future__ import annotations

import uuid
from collections import Counter
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.datasets import load_datasets
from libs.pipeline.decode import Decoder
from services.generator.domain import Faults, Made, Orders, key_ids, synthetic_orders, time_ordered_id

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
FAULTS = Faults(duplicate=0.03, conflict=0.01, late=0.02, out_of_order=0.02, malformed=0.02, negative=0.01)
EXPECTED = {
    "duplicate": 300,
    "conflict": 100,
    "late": 200,
    "out_of_order": 200,
    "malformed": 200,
    "negative": 100,
}


def decoded(made: Made) -> dict[str, dict[str, str]]:
    document: dict[str, dict[str, str]] = msgspec.json.decode(made.document)
    return document


def test_the_same_seed_makes_the_same_orders() -> None:
    first, second = (Orders(7, "run", faults=FAULTS).take(500, now=NOW) for _ in range(2))
    assert first == second
    assert Orders(8, "run", faults=FAULTS).take(500, now=NOW) != first


def test_two_runs_share_contents_but_no_id() -> None:
    first, second = (Orders(7, run).take(100, now=NOW) for run in ("a", "b"))
    amounts = [[decoded(one)["data"]["amount"] for one in made] for made in (first, second)]
    assert amounts[0] == amounts[1]
    assert not {decoded(one)["id"] for one in first} & {decoded(one)["id"] for one in second}
    assert not {decoded(one)["data"]["order_id"] for one in first} & {
        decoded(one)["data"]["order_id"] for one in second
    }


@pytest.mark.parametrize("step", [10_000, 100, 7])
def test_each_fault_is_as_frequent_as_was_said_to_the_event(step: int) -> None:
    orders = Orders(1, "run", faults=FAULTS)
    made = [
        one for first in range(0, 10_000, step) for one in orders.take(min(step, 10_000 - first), now=NOW)
    ]
    counts = Counter(one.kind for one in made)
    assert counts.pop("good") == 8_900
    assert counts == EXPECTED
    assert orders.made == Counter(one.kind for one in made)


@given(
    seed=st.integers(0, 1000), shares=st.lists(st.sampled_from([0.0, 0.05, 0.1, 0.2]), min_size=6, max_size=6)
)
def test_it_holds_for_any_shares_and_any_seed(seed: int, shares: list[float]) -> None:
    names = ("duplicate", "conflict", "out_of_order", "late", "malformed", "negative")
    if sum(shares) > 0.4:  # an order is referred to once at most, so there must be enough good ones
        shares = [share / 2 for share in shares]
    faults = Faults(**dict(zip(names, shares, strict=True)))
    orders = Orders(seed, "run", faults=faults)
    orders.take(400, now=NOW)
    assert {name: orders.made[name] for name in names} == {
        name: round(share * 400) for name, share in faults.shares().items()
    }


def test_what_lands_is_what_the_kinds_say() -> None:
    """An event of each kind meets its fate in the decoder that the ingestor uses."""
    decoder = Decoder(load_datasets()["orders"])
    identities: Counter[str] = Counter()
    payloads: dict[str, set[str]] = {}
    for made in Orders(3, "run", faults=FAULTS).take(10_000, now=NOW):
        slots = decoder.decode(made.document, entry_id="1-0")
        assert bool(slots.refused) == (made.kind == "malformed"), made
        if slots.rows:
            event = msgspec.json.decode(made.document)
            identities[event["id"]] += 1
            payloads.setdefault(event["id"], set()).add(str(event["data"]))
    repeated = {event_id for event_id, times in identities.items() if times > 1}
    conflicting = {event_id for event_id in repeated if len(payloads[event_id]) > 1}
    assert len(repeated) == 400
    assert len(conflicting) == 100


def test_malformed_events_are_refused_for_different_reasons() -> None:
    decoder = Decoder(load_datasets()["orders"])
    made = Orders(3, "run", faults=Faults(malformed=1)).take(12, now=NOW)
    reasons = [decoder.decode(one.document, entry_id="1-0").refused[0].reason for one in made]
    assert set(reasons) == {"field_missing", "wrong_type", "undecodable", "not_exact"}


def test_an_event_out_of_order_is_an_older_version_of_an_order_sent_before() -> None:
    sent: dict[str, str] = {}
    for made in Orders(5, "run", faults=Faults(out_of_order=0.2)).take(200, now=NOW):
        event = decoded(made)
        key, moment = event["data"]["order_id"], str(event["time"])
        if made.kind == "out_of_order":
            assert datetime.fromisoformat(moment) < datetime.fromisoformat(sent[key])
        else:
            sent[key] = moment


def test_late_orders_are_days_old_and_the_others_are_of_now() -> None:
    for made in Orders(5, "run", faults=Faults(late=0.5)).take(100, now=NOW):
        age = NOW - datetime.fromisoformat(str(decoded(made)["time"]))
        assert (age >= timedelta(days=1)) == (made.kind == "late")
        assert age >= timedelta(0)


def test_negative_orders_are_below_zero_and_no_others() -> None:
    for made in Orders(5, "run", faults=Faults(negative=0.5)).take(100, now=NOW):
        assert decoded(made)["data"]["amount"].startswith("-") == (made.kind == "negative")


@pytest.mark.parametrize("shares", [{"late": 1.1}, {"late": -0.1}, {"late": 0.6, "negative": 0.6}])
def test_shares_that_make_no_sense_are_refused(shares: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="shares lie between"):
        Faults(**shares)


def test_synthetic_orders_are_fixed_by_their_seed() -> None:
    assert synthetic_orders(4, 10) == synthetic_orders(4, 10)
    assert synthetic_orders(4, 10) != synthetic_orders(5, 10)
    assert len({order.order_id for order in synthetic_orders(4, 1000)}) == 1000


def test_a_key_stands_for_the_same_ids_however_often_it_comes() -> None:
    assert key_ids("k", 3) == key_ids("k", 3)
    assert key_ids("k", 3)[:2] == key_ids("k", 2)
    assert len({*key_ids("k", 3), *key_ids("l", 3)}) == 6


def test_a_time_ordered_id_is_a_uuid_of_version_7() -> None:
    found = uuid.UUID(time_ordered_id(1_767_605_400_000, 2**74 - 1))
    assert (found.version, found.variant) == (7, uuid.RFC_4122)
    assert found.int >> 80 == 1_767_605_400_000
    assert time_ordered_id(1, 0) < time_ordered_id(2, 0)
    assert len({time_ordered_id(1, chance << shift) for chance in (1,) for shift in range(74)}) == 74
