"""The gate's verdicts as they are told and drawn: the answer, the map's columns and rows, a rule's trend."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from libs.operations.judged import Judged, JudgedGeneration, Readable, RuleResult
from services.console.looks.heat import (
    CELL,
    TREND_HEIGHT,
    answer,
    columns,
    commands_for_generation,
    rows,
    trend,
)

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def a_result(rule: str = "amount_not_negative", **values: Any) -> RuleResult:
    facts = {"status": "pass", "observed": None, "evaluated": 100, "unexpected": 0, "tolerance": 0.0}
    return RuleResult(rule=rule, **{**facts, **values})


def a_generation(number: int, *results: RuleResult, **values: Any) -> JudgedGeneration:
    """Published and passing, judged so many minutes after noon as its number says."""
    facts = {
        "dataset": "orders",
        "state": "published",
        "kind": "delta",
        "verdict": "pass",
        "verdict_at": NOON + timedelta(minutes=number),
        "override_reason": None,
        "waiting": 0,
    }
    return JudgedGeneration(number=number, results=list(results), **{**facts, **values})


def a_blocked(number: int, *, waiting: int = 5, **values: Any) -> JudgedGeneration:
    broken = a_result(status="fail", unexpected=1)
    return a_generation(
        number, broken, **{"state": "blocked", "verdict": "fail", "waiting": waiting, **values}
    )


def judged(*newest_first: JudgedGeneration) -> Judged:
    return Judged(dataset="orders", generations=list(newest_first))


def readable(generation: int, **values: Any) -> Readable:
    facts = {"verdict": "pass", "override_reason": None, "published_at": NOON, "pinned": None}
    return Readable(dataset="orders", generation=generation, **{**facts, **values})


def test_of_a_dataset_that_was_never_judged_nothing_is_said() -> None:
    assert answer(judged(), None) is None


def test_what_passes_is_said_with_what_readers_see() -> None:
    said = answer(judged(a_generation(2), a_generation(1)), readable(2))
    assert said is not None
    assert (said.is_, said.generation, said.readable, said.rules) == ("passes", 2, 2, [])
    assert said.since == NOON + timedelta(minutes=2)


def test_what_was_accepted_is_said_with_the_rule_it_breaks_and_why_it_was() -> None:
    taken = a_blocked(2, state="published", waiting=0, override_reason="known")
    said = answer(judged(taken, a_generation(1)), readable(2, verdict="fail", override_reason="known"))
    assert said is not None
    assert (said.is_, said.rules, said.override_reason) == ("accepted", ["amount_not_negative"], "known")


@pytest.mark.parametrize(
    ("verdict", "status", "is_"), [("fail", "fail", "blocked"), ("error", "error", "unjudged")]
)
def test_what_is_blocked_is_said_since_the_first_that_was(verdict: str, status: str, is_: str) -> None:
    newest = a_generation(
        4, a_result(status=status), a_result("other"), state="blocked", verdict=verdict, waiting=7
    )
    said = answer(
        judged(newest, a_blocked(3), a_generation(2), a_blocked(1)), readable(2, pinned="wrong price")
    )
    assert said is not None
    assert (said.is_, said.generation, said.waiting, said.readable) == (is_, 4, 7, 2)
    assert (said.rules, said.pinned, said.set_aside) == (["amount_not_negative"], "wrong price", None)
    assert said.since == NOON + timedelta(minutes=3)


def test_a_blocked_one_for_which_nothing_waits_ends_the_row_of_blocked_ones() -> None:
    said = answer(judged(a_blocked(3), a_blocked(2, waiting=0), a_generation(1)), readable(1))
    assert said is not None
    assert said.since == NOON + timedelta(minutes=3)


def test_what_was_blocked_first_of_all_leaves_readers_nothing() -> None:
    said = answer(judged(a_blocked(1)), None)
    assert said is not None
    assert (said.is_, said.readable) == ("blocked", None)


def test_a_blocked_one_for_which_nothing_waits_is_set_aside() -> None:
    said = answer(judged(a_blocked(3, waiting=0), a_generation(2)), readable(2))
    assert said is not None
    assert (said.is_, said.generation, said.set_aside, said.waiting) == ("passes", 2, 3, 0)
    assert said.since == NOON + timedelta(minutes=2)


def test_what_readers_see_may_be_older_than_all_that_are_shown() -> None:
    seen = readable(1, verdict="fail", override_reason="known", pinned="audit")
    said = answer(judged(a_blocked(3, waiting=0)), seen)
    assert said is not None
    assert (said.is_, said.generation, said.since) == ("accepted", 1, NOON)
    assert (said.rules, said.override_reason, said.pinned) == ([], "known", "audit")


def test_with_nothing_to_read_a_blocked_one_is_not_set_aside() -> None:
    said = answer(judged(a_blocked(1, waiting=0)), None)
    assert said is not None
    assert (said.is_, said.generation, said.set_aside) == ("blocked", 1, None)


def test_columns_go_from_the_oldest_and_every_fifth_is_labelled_from_the_newest() -> None:
    made = columns(judged(*(a_generation(number) for number in range(7, 0, -1))), chosen=None, readable=6)
    assert [column.generation.number for column in made] == [1, 2, 3, 4, 5, 6, 7]
    assert [column.x for column in made] == [at * CELL for at in range(7)]
    assert [column.generation.number for column in made if column.label] == [2, 7]
    assert [column.generation.number for column in made if column.readable] == [6]
    assert not any(column.chosen for column in made)


def test_a_chosen_column_has_its_label_and_room_for_it() -> None:
    made = columns(judged(*(a_generation(number) for number in range(7, 0, -1))), chosen=3, readable=7)
    assert [column.generation.number for column in made if column.chosen] == [3]
    assert [column.generation.number for column in made if column.label] == [3, 7]


def test_a_rule_has_a_cell_in_each_generation_though_it_was_not_judged_in_all() -> None:
    newer = a_generation(2, a_result("a"), a_result("b", status="fail", unexpected=25, observed="25"))
    found = {row.rule: row for row in rows(judged(newer, a_generation(1, a_result("a"))))}
    assert [cell.status for cell in found["b"].cells] == [None, "fail"]
    assert [cell.share for cell in found["b"].cells] == [None, 0.25]
    assert [(cell.generation, cell.x) for cell in found["a"].cells] == [(1, 0), (2, CELL)]
    assert found["b"].cells[1].observed == "25"
    assert (found["a"].count("pass"), found["b"].count("pass")) == (2, 0)


def test_what_was_broken_last_comes_first_then_what_did_not_run() -> None:
    older = a_generation(
        1, a_result("healthy"), a_result("c", status="fail"), a_result("d"), a_result("z", status="not run")
    )
    newer = a_generation(
        2, a_result("healthy"), a_result("c"), a_result("d", status="error"), a_result("z", status="not run")
    )
    assert [row.rule for row in rows(judged(newer, older))] == ["d", "c", "z", "healthy"]


@pytest.mark.parametrize(
    "values", [{"tolerance": None}, {"evaluated": 0}, {"evaluated": None}, {"unexpected": None}]
)
def test_a_rule_that_counts_no_rows_has_no_share_and_no_trend(values: dict[str, Any]) -> None:
    (row,) = rows(judged(a_generation(1, a_result(**values))))
    assert row.cells[0].share is None
    assert row.trend is None


def test_the_newest_tolerance_of_a_rule_is_the_one_that_is_drawn() -> None:
    (row,) = rows(judged(a_generation(2, a_result(tolerance=0.2)), a_generation(1, a_result(tolerance=0.1))))
    assert row.trend is not None
    assert row.trend.tolerance == 0.2


def test_bars_over_what_is_tolerated_are_told_from_those_within() -> None:
    made = trend([0.05, None, 0.0, 0.2], 0.1)
    assert made is not None
    assert made.within == f"M2,{TREND_HEIGHT} V{TREND_HEIGHT * (1 - 0.05 / 0.22):g}"
    assert made.beyond == f"M14,{TREND_HEIGHT} V{round(TREND_HEIGHT * (1 - 0.2 / 0.22), 1):g}"
    assert made.tolerance_y == TREND_HEIGHT * (1 - 0.1 / 0.22)
    assert (made.newest, made.highest, made.cut) == (0.2, 0.2, "")


def test_a_bar_beyond_the_scale_is_cut_and_says_so() -> None:
    made = trend([0.9, 0.01], 0.1)
    assert made is not None
    assert made.beyond == f"M2,{TREND_HEIGHT} V0"
    assert made.cut == "M0,4 L2,0 L4,4"
    assert (made.newest, made.highest) == (0.01, 0.9)


def test_where_nothing_is_tolerated_there_is_no_line_and_the_least_bar_can_be_seen() -> None:
    made = trend([0.5, 0.000001], 0.0)
    assert made is not None
    assert made.tolerance_y is None
    assert made.within == ""
    assert made.beyond.endswith(f"V{TREND_HEIGHT - 1:g}")
    assert trend([None, None], 0.1) is None


def test_where_no_row_broke_the_rule_there_is_nothing_to_compare_with_what_is_tolerated() -> None:
    made = trend([0.0, 0.0], 0.1)
    assert made is not None
    assert (made.within, made.beyond, made.tolerance_y, made.tolerance) == ("", "", None, 0.1)


def test_commands_say_how_a_blocked_generation_is_left_out_or_accepted() -> None:
    generation = {"number": 3, "dataset": "orders"}
    lines = [
        one.line for one in commands_for_generation(generation, acceptable=True, waiting=["a", "b", "c", "d"])
    ]
    assert "drp quality show 3" in lines
    assert [line.split()[3] for line in lines if "hold" in line] == ["a", "b", "c"]
    assert lines[-1] == "drp quality accept 3 --reason …"
    calm = [one.line for one in commands_for_generation(generation, acceptable=False, waiting=[])]
    assert not any("accept" in line or "hold" in line for line in calm)
