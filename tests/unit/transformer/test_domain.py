"""What becomes of a candidate."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from libs.pipeline.plan import Batch
from services.transformer.domain import Candidate, Fate, Pointer, fate_of, holder_of, links_of, why_abandon

POINTER = Pointer(generation=3, version=9, pinned=False, file="gen-000003-1.duckdb")
PASSED = Candidate(
    number=4,
    state="passed",
    kind="incremental",
    parent=3,
    file="gen-000004-1.duckdb",
    sha256="ab",
    held=0,
    released=0,
    unarchived=1,
    traceparent=None,
)


def fate(
    candidate: Candidate = PASSED, pointer: Pointer = POINTER, *, there: bool = True, required: bool = False
) -> Fate:
    return fate_of(candidate, pointer, file_is_there=there, archive_required=required)


def test_what_passed_is_published() -> None:
    assert fate() is Fate.PUBLISH


@pytest.mark.parametrize("state", ["building", "built"])
def test_what_has_no_verdict_waits(state: str) -> None:
    assert fate(replace(PASSED, state=state)) is Fate.WAIT


def test_nothing_is_published_while_the_pointer_is_pinned() -> None:
    assert fate(pointer=replace(POINTER, pinned=True)) is Fate.WAIT


def test_a_required_archive_is_waited_for() -> None:
    assert fate(required=True) is Fate.WAIT
    assert fate(replace(PASSED, unarchived=0), required=True) is Fate.PUBLISH


@pytest.mark.parametrize("state", ["built", "passed"])
def test_what_was_built_on_another_generation_is_given_up(state: str) -> None:
    stale = replace(PASSED, state=state, parent=2)
    assert fate(stale) is Fate.ABANDON
    assert "readers see generation 3 now" in (why_abandon(stale, POINTER, file_is_there=True) or "")


def test_what_carries_a_held_batch_is_given_up() -> None:
    assert fate(replace(PASSED, held=1)) is Fate.ABANDON


def test_what_leaves_out_a_batch_that_was_released_is_given_up() -> None:
    assert fate(replace(PASSED, kind="full", released=1)) is Fate.ABANDON


def test_what_has_lost_its_file_is_given_up_also_while_pinned() -> None:
    assert fate(pointer=replace(POINTER, pinned=True), there=False) is Fate.ABANDON


def test_what_is_being_built_is_its_builders_business() -> None:
    assert (
        why_abandon(replace(PASSED, state="building", parent=2, held=1), POINTER, file_is_there=False) is None
    )


def test_a_build_goes_on_in_the_oldest_trace_and_links_the_others() -> None:
    now = datetime(2026, 1, 5, tzinfo=UTC)
    batches = [Batch(uuid.uuid4(), now, False, False, 1, trace) for trace in (None, "t1", "t2")]
    assert links_of(batches) == ("t1", ["t2"])
    assert links_of([]) == (None, [])


def test_two_lives_of_a_replica_are_told_apart() -> None:
    one, other = (holder_of("transformer-1", uuid.uuid4()) for _ in range(2))
    assert one != other
    assert one.split("/")[0] == other.split("/")[0] == "transformer-1"
