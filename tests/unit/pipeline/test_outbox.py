"""What an entry says, or that it says nothing that we know."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

import pytest

from libs.adapters.bus import Entry
from libs.contracts.events import BatchHeld, batch_subject, encode_event
from libs.errors import Permanent
from libs.pipeline.outbox import read_event

NOW = datetime(2026, 1, 5, tzinfo=UTC)


def test_an_entry_carries_an_event_and_its_envelope() -> None:
    batch = uuid.uuid4()
    event = BatchHeld(
        dataset="orders", started_at=NOW, ended_at=NOW, records=1, batch_id=batch, reason="wrong prices"
    )
    event_id, document = encode_event(
        event, cause=uuid.uuid4(), subject=batch_subject(batch), traceparent=None
    )
    envelope, read = read_event(Entry("drp.batches", "1-1", document))
    assert (envelope.id, read) == (event_id, event)


@pytest.mark.parametrize(
    "document", [b"alice@secret.example", b"", b'{"specversion": "alice@secret.example"}']
)
def test_another_entry_is_refused_by_its_id_alone(document: bytes) -> None:
    with pytest.raises(Permanent, match=r"entry 1-1 of drp\.batches is no pipeline event") as refused:
        read_event(Entry("drp.batches", "1-1", document))
    assert refused.value.why in {"DecodeError", "ValidationError"}
    assert "alice" not in str(refused.value)


def test_an_event_of_a_later_version_is_refused() -> None:
    event = BatchHeld(
        dataset="orders", started_at=NOW, ended_at=NOW, records=1, batch_id=uuid.uuid4(), reason="x"
    )
    _, document = encode_event(event, cause=uuid.uuid4(), subject="batch:1", traceparent=None)
    later = document.replace(BatchHeld.type.encode(), b"drp.from_the_future.v9")
    with pytest.raises(Permanent, match="KeyError"):
        read_event(Entry("drp.batches", "1-1", later))
