"""What each side of the ledger says of a batch, and what is called a difference."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

import pytest

from libs.operations.archive_tree import Folder
from libs.operations.balance import Balance, Taken
from libs.operations.ledger import LedgerReport
from services.console.domain.archive import drawers
from services.console.domain.ledger import CELLS, BatchRow, Problem, batch_row, generation_problem, verdict_of

AT = datetime(2026, 1, 5, 12, tzinfo=UTC)
BATCH = uuid.UUID(int=7)
PUBLISHED: dict[str, Any] = {"status": "published", "generation": 3, "last_generation": 3, "verdict": "pass"}
WAITING: dict[str, Any] = {"status": "closed", "generation": None, "archived_at": None}


def a_balance(**values: Any) -> Balance:
    """Published and archived: 20 accepted, 3 duplicate, 2 quarantined, 1 dead-lettered, out of 4 entries."""
    made: dict[str, Any] = {
        **PUBLISHED,
        "id": BATCH,
        "dataset": "orders",
        "opened_at": AT,
        "closed_at": AT,
        "archived_at": AT,
        "entries": 4,
        "events": 26,
        "entries_accepted": 20,
        "entries_duplicate": 3,
        "entries_quarantined": 2,
        "entries_dead_lettered": 1,
        "landed": 26,
        "accepted": 20,
        "duplicate": 3,
        "quarantined": 2,
        "conflicts": 0,
        "dead_lettered": 1,
        "raw_rows": 20,
        "quarantine_rows": 3,
        "read_generation": 5,
        "read_file": "gen-000005-1.duckdb",
        "archived_accepted": 20,
        "archived_refused": 3,
    }
    return Balance(**{**made, **values})


def a_row(rows: int = 20, **values: Any) -> BatchRow:
    return batch_row(a_balance(**values), {BATCH: Taken(rows=rows, staged=17, rejected=1)}, archives=True)


def states(row: BatchRow) -> dict[str, str]:
    return {cell.name: cell.state for cell in row.cells}


def test_where_the_archive_is_off_nothing_waits_for_it() -> None:
    row = batch_row(a_balance(archived_at=None), None, archives=False)
    assert (row.cell("archive").state, row.cell("archive").says) == ("none", ["the archive is off"])


def test_a_batch_that_is_everywhere_is_equal_on_every_side() -> None:
    row = a_row()
    assert list(states(row)) == list(CELLS)
    assert set(states(row).values()) == {"equal"}
    assert row.balanced
    assert {cell.name: cell.count for cell in row.cells} == {
        "producer": 4,
        "stream": 26,
        "raw": 26,
        "staging": 20,
        "mart": 3,
        "archive": 23,
    }
    assert row.cell("staging").parts == [("staged", 17), ("rejected", 1), ("superseded", 2)]
    assert ("dead-lettered", 1) in row.cell("raw").parts


@pytest.mark.parametrize(
    ("values", "side", "said"),
    [
        ({"entries_duplicate": 2}, "stream", "its entries say 2 duplicate, the batch 3"),
        ({"entries_accepted": 19}, "stream", "its entries say 19 accepted, the batch 20"),
        ({"entries_quarantined": 3}, "stream", "its entries say 3 quarantined, the batch 2"),
        ({"entries_dead_lettered": 0}, "stream", "its entries say 0 dead-lettered, the batch 1"),
        ({"raw_rows": 19}, "raw", "20 accepted, 19 rows in RAW"),
        ({"quarantine_rows": 2}, "raw", "3 refused, 2 rows in quarantine"),
        ({"rows": 18}, "staging", "20 accepted, generation 5 took 18"),
        ({"archived_accepted": 21}, "archive", "20 accepted, 21 in the archive"),
        ({"archived_refused": 0}, "archive", "3 refused, 0 in the archive"),
    ],
)
def test_the_side_that_differs_is_marked_and_no_other(values: dict[str, Any], side: str, said: str) -> None:
    row = a_row(**values)
    assert [name for name, state in states(row).items() if state == "differs"] == [side]
    assert row.cell(side).says == [said]
    assert not row.balanced


def test_what_is_on_its_way_waits_and_differs_from_nothing() -> None:
    row = a_row(**WAITING, archived_accepted=0, archived_refused=0)
    assert states(row)["staging"] == states(row)["archive"] == states(row)["mart"] == "waiting"
    assert row.cell("staging").says == ["waits for a build"]
    assert row.balanced


def test_a_batch_that_readers_lack_though_it_is_called_published_differs() -> None:
    row = batch_row(a_balance(), {}, archives=True)
    assert row.cell("staging").says == ["20 accepted, generation 5 took 0"]


def test_a_file_that_could_not_be_asked_is_unknown_and_never_a_difference() -> None:
    row = batch_row(a_balance(), None, archives=True)
    assert states(row)["staging"] == "unknown"
    assert row.balanced


def test_a_dataset_that_the_console_lacks_is_unknown() -> None:
    assert states(a_row(raw_rows=None))["raw"] == "unknown"


def test_a_batch_with_nothing_accepted_has_nothing_to_stage() -> None:
    nothing: dict[str, Any] = {
        "accepted": 0,
        "entries_accepted": 0,
        "raw_rows": 0,
        "archived_accepted": 0,
        "landed": 6,
    }
    row = a_row(**nothing, status="empty", generation=None)
    assert states(row)["staging"] == states(row)["mart"] == "none"
    assert row.balanced


def a_report(**values: Any) -> LedgerReport:
    names = ("accepted", "duplicate", "quarantined", "conflicts", "dead_lettered", "in_flight", "unaccounted")
    counts = dict.fromkeys(
        (*names, "held", "batches", "entries_added", "entries_landed", "entries_in_flight"), 0
    )
    return LedgerReport(**{"dataset": "orders", "published": 5, "problems": [], **counts, **values})


def test_the_verdict_is_what_the_count_found_and_unknown_without_one() -> None:
    assert verdict_of([a_report()], asked=True).state == "balanced"
    assert verdict_of([a_report(published=0)], asked=True).state == "empty"
    assert verdict_of([a_report(), a_report(problems=["x"])], asked=True).problems == [
        Problem(batch=None, says="x")
    ]
    assert verdict_of([a_report(problems=["x"])], asked=True).state == "differs"
    assert verdict_of(None, asked=True).state == "unknown"
    assert verdict_of([a_report()], asked=False).state == "unknown"
    not_all = verdict_of([a_report()], asked=True, uncounted=["x"])
    assert (not_all.state, [one.says for one in not_all.problems]) == ("unknown", ["x"])


def test_a_problem_leads_to_the_batch_that_it_is_said_of() -> None:
    found = verdict_of(
        [a_report(problems=[f"batch {BATCH}: accepted, and rows in RAW: 62 and 60"])], asked=True
    )
    assert found.problems == [Problem(batch=BATCH, says="accepted, and rows in RAW: 62 and 60")]


def test_what_only_the_archive_or_readers_lack_is_said_too_and_nothing_twice() -> None:
    told = a_report(problems=[f"batch {BATCH}: accepted, and rows in RAW: 20 and 19"])
    everywhere = a_row(raw_rows=19, rows=18, archived_accepted=17)
    assert [
        one.says for one in verdict_of([a_report()], [a_row(archived_accepted=17)], asked=True).problems
    ] == ["Archive: 20 accepted, 17 in the archive"]
    assert [one.says for one in verdict_of([told], [everywhere], asked=True).problems] == [
        "accepted, and rows in RAW: 20 and 19",
        "Staging: 20 accepted, generation 5 took 18",
        "Archive: 20 accepted, 17 in the archive",
    ]


def test_a_generation_whose_rows_do_not_add_up_says_so() -> None:
    adds_up = {"raw_rows": 10, "staged": 7, "rejected": 1, "superseded": 2}
    assert generation_problem(adds_up) is None
    assert generation_problem({**adds_up, "staged": 6}) == "built from 10 rows, which became 9"
    assert generation_problem(dict.fromkeys(adds_up)) is None


def test_folders_lie_in_drawers_and_older_days_are_counted() -> None:
    def a_day(root: str, day: str, days: int) -> Folder:
        return Folder(
            root=root, dataset="orders", day=day, objects=3, records=9, bytes=70, stored_at=AT, days=days
        )

    raw, marts = drawers([a_day("raw", "d=2", 5), a_day("raw", "d=1", 5), a_day("analytics", "d=2", 1)])
    assert (raw.root, [day.day for day in raw.days], raw.older) == ("raw", ["d=2", "d=1"], 3)
    assert (raw.objects, raw.bytes) == (6, 140)
    assert (marts.root, marts.older) == ("analytics", 0)
