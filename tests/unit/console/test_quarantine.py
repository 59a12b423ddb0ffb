from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from libs.operations.quarantined import STAGES
from libs.pipeline.refusals import REASONS
from services.console.domain.quarantine import (
    SHOWN,
    bars,
    commands_for_choice,
    commands_for_slot,
    in_sum,
    parts_of_time,
    pieces,
    rule_says,
    sentence,
    version,
)

BEGAN = datetime(2026, 1, 2, tzinfo=UTC)
ENDED = BEGAN + timedelta(hours=4)


def a_slot(**changes: Any) -> dict[str, Any]:
    return {"id": 7, "event_id": "e-1", "state": "open", "outcome": "refused", "fields": []} | changes


def lines(slot: dict[str, Any]) -> list[str]:
    return [command.line for command in commands_for_slot(slot)]


def test_every_reason_has_a_stage() -> None:
    assert STAGES.keys() == REASONS.keys()


def test_the_highest_bar_fills_the_drawing_and_a_low_one_is_seen() -> None:
    drawn = bars([1000, 0, 1, 500], BEGAN, ENDED, width=40, height=20)
    assert drawn.path == "M5,20 v-20 M25,20 v-2 M35,20 v-10"


def test_bars_say_how_many_there_are_and_when_most_came() -> None:
    assert bars([0, 3, 1, 0], BEGAN, ENDED).says == (
        "4 in all, most of them, 3, from 2026-01-02 01:00 UTC on"
    )
    assert bars([0, 0], BEGAN, ENDED).says == "none"
    assert bars([], None, ENDED).path == ""


def test_the_table_beside_the_bars_has_the_parts_in_which_something_came() -> None:
    assert [(part.begins_at, part.count) for part in parts_of_time([0, 3, 0, 1], BEGAN, ENDED)] == [
        (BEGAN + timedelta(hours=1), 3),
        (BEGAN + timedelta(hours=3), 1),
    ]


def test_parts_of_all_groups_are_added() -> None:
    assert in_sum([[1, 0, 2], [0, 0, 5]]) == [1, 0, 7]
    assert in_sum([]) == []


@pytest.mark.parametrize(
    ("reason", "field", "detail", "said"),
    [
        ("wrong_type", "amount", "amount: the text is no decimal", "Its amount was refused: the text is no decimal."),
        ("field_missing", "customer_id", "customer_id is missing", "Its customer_id is missing."),
        ("conflict", None, "RAW holds another payload", "RAW holds another payload."),
        ("undecodable", None, "JSON is malformed: invalid (byte 2)", "The bytes are no JSON: invalid (byte 2)."),
        ("of_old", None, "a reason that is gone", "A reason that is gone."),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_sentence(reason: str, field: str | None, detail: str, said: str) -> None:
    assert sentence(reason, REASONS.get(reason), field, detail) == said


def test_a_field_is_marked_where_it_stands_and_not_where_another_has_its_name() -> None:
    event = {"id": "1", "amount": "envelope", "data": {"amount": "14,42", "inner": {"amount": 3}}}
    found, more = pieces(json.dumps(event).encode(), {"amount"}, "amount: no")
    assert [piece.text.strip() for piece in found if piece.marked] == ['"amount": "14,42",']
    assert json.loads("".join(piece.text for piece in found)) == event
    assert not more


def test_an_attribute_of_the_envelope_is_marked_by_its_own_name() -> None:
    found, _ = pieces(b'{"id": "1", "data": {"id": "2"}}', {"ce-id"}, "id: no")
    assert [piece.text.strip() for piece in found if piece.marked] == ['"id": "1",']


def test_of_what_is_no_json_the_byte_is_marked_that_is_wrong() -> None:
    found, _ = pieces(b'{"amount": NaN}', set(), "JSON is malformed: invalid character (byte 11)")
    assert [(piece.text, piece.marked) for piece in found] == [
        ('{"amount": ', False),
        ("N", True),
        ("aN}", False),
    ]


def test_what_breaks_off_is_marked_at_its_end() -> None:
    found, _ = pieces(b'{"amount": \xff', set(), "Input data was truncated")
    assert [piece.marked for piece in found] == [False, True]
    assert found[0].text == '{"amount": \\xff'


@pytest.mark.parametrize("document", [b"[" * 5_000, b"", b"\x00", b'"\\ud800"', b"1" * 10_000])
def test_any_bytes_can_be_shown(document: bytes) -> None:
    found, _ = pieces(document, {"amount"}, "")
    assert "".join(piece.text for piece in found)


def test_a_large_document_is_cut_and_says_so() -> None:
    for document in (json.dumps({"data": {"x": "y" * SHOWN}}).encode(), b"{" + b"y" * 2 * SHOWN):
        found, more = pieces(document, set(), "JSON is malformed (byte 1)")
        assert more
        assert sum(len(piece.text) for piece in found) <= SHOWN + 20


def test_a_rule_is_said_as_its_bounds() -> None:
    assert rule_says("range", {"min_value": 0, "max_value": None}) == "≥ 0"
    assert rule_says("range", {"min_value": 0, "max_value": 9, "strict_min": True}) == "> 0 and ≤ 9"
    assert rule_says("length", {"min_value": 2, "max_value": 2}) == "length ≥ 2 and ≤ 2"
    assert rule_says("valid_values", {"value_set": ["a", "b"]}) == "one of a, b"
    assert rule_says("pattern", {"regex": "[a-z]+"}) == "matches [a-z]+"


def test_a_version_is_as_short_as_it_can_be() -> None:
    assert version("urn:drp:orders:v2") == "v2"
    assert version("urn:else:orders") == "urn:else:orders"
    assert version(None) is None


def test_the_fix_names_the_fields_that_are_wrong() -> None:
    wrong = [{"field": "amount", "problem": "no decimal"}, {"field": "customer_id", "problem": "is missing"}]
    assert "drp quarantine fix 7 --set amount=… --set customer_id=…" in lines(a_slot(fields=wrong))
    assert "drp quarantine fix 7 --edit" in lines(a_slot())
    assert "drp quarantine fix 7 --new-id" in lines(a_slot(outcome="conflict"))


def test_what_is_settled_can_only_be_taken_up_again() -> None:
    found = lines(a_slot(state="discarded"))
    assert "drp quarantine reopen 7" in found
    assert not [line for line in found if "redrive" in line or "discard" in line]


def test_what_a_producer_chose_is_quoted_before_somebody_pastes_it_into_a_shell() -> None:
    assert "drp events find '$(reboot)'" in lines(a_slot(event_id="$(reboot)"))


def test_the_commands_of_the_list_choose_what_the_page_chose() -> None:
    found = [each.line for each in commands_for_choice(None, "wrong_type", "last", "open")]
    assert found[0] == "drp quarantine ls --reason wrong_type --batch last"
    assert "drp quarantine discard --reason wrong_type --batch last --because …" in found
    assert [each.line for each in commands_for_choice(None, None, None, "discarded")] == [
        "drp quarantine ls --state discarded"
    ]
    assert "drp quarantine redrive --all" in [
        each.line for each in commands_for_choice(None, None, None, None)
    ]
