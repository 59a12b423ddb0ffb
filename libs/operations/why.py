"""`drp why`: in plain sentences, why something is where it is, and what to do about it."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

from libs.contracts.events import batch_subject, generation_subject
from libs.errors import Permanent
from libs.operations import reading
from libs.operations.actions import actions_on
from libs.operations.examination import examined
from libs.operations.versions import is_writable, superseded_by, versions

if TYPE_CHECKING:
    from libs.adapters.postgres import Postgres, Row
    from libs.datasets import Dataset
    from libs.operations.reading import Record

__all__ = ["Explanation", "why"]

_AT_MOST: Final = 10
_QUARANTINE: Final = "quarantine:"
_HEXADECIMAL: Final = frozenset("0123456789abcdefABCDEF-")

_PINNED: Final = "SELECT pinned_at, pinned_reason FROM ops.warehouse_pointer WHERE dataset = $1"

_IN_THE_WAY: Final = """
-- at most one row: the newest generation of the dataset that is on its way, or else blocked above the current one
SELECT g.number, g.state FROM ops.generations g LEFT JOIN ops.warehouse_pointer p ON p.dataset = g.dataset
WHERE g.dataset = $1 AND g.state IN ('building', 'built', 'passed', 'blocked')
  AND g.number > coalesce(p.generation, 0)
ORDER BY g.state = 'blocked', g.number DESC LIMIT 1
"""

_GENERATION: Final = """
-- one row: the generation, with its batches and what readers see
SELECT g.number, g.dataset, g.state, g.kind, g.parent, g.verdict, g.override_reason, g.error, g.holder, g.staged,
       g.rejected, g.published_at, g.archive_state, p.generation AS current, p.pinned_at, p.pinned_reason,
       (SELECT count(*) FROM ops.generation_batches gb WHERE gb.generation = g.number) AS batches
FROM ops.generations g LEFT JOIN ops.warehouse_pointer p ON p.dataset = g.dataset WHERE g.number = $1
"""

_BROKEN: Final = """
-- one row: the first rule that the event's row broke in a generation that applied its batch, or null
SELECT min(f.rule) FROM ops.quality_failures f JOIN ops.generation_batches gb ON gb.generation = f.generation
WHERE gb.batch_id = $1 AND f.source_system = $2 AND f.event_id = $3
"""

_NOT_TAKEN: Final = """
-- one row per quarantined slot of this event id, newest first
SELECT id FROM raw.quarantine WHERE event_id = $1 ORDER BY id DESC LIMIT $2
"""


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """What is explained (`batch:…`, `generation:…`, `quarantine:…` or `event:…`), where it is (one word), why
    (sentences), which commands come next, and what operators did with it."""

    subject: str
    state: str
    sentences: list[str]
    next: list[str]
    actions: list[dict[str, Any]]


async def why(postgres: Postgres, datasets: Mapping[str, Dataset], text: str) -> list[Explanation]:
    """Explain what the text names: a batch (its id, the start of it, `last`), a generation's number, an event (its
    id, or the key of its row), or `quarantine:N`. Several, if several events are meant.

    Raises:
        Permanent: it names nothing.
    """
    if text.startswith(_QUARANTINE) and text.removeprefix(_QUARANTINE).isascii():
        return [await _quarantined(postgres, datasets, _number(text.removeprefix(_QUARANTINE), text))]
    if text.isascii() and text.isdigit() and len(text) < 19:
        row = await postgres.fetchrow(_GENERATION, int(text))
        if row is not None:
            return [await _generation(postgres, dict(row))]
    if (batch := await _batch_id(postgres, text)) is not None:
        return [await _batch(postgres, await reading.batch(postgres, batch))]
    found = await _events(postgres, datasets, text)
    if not found:
        raise Permanent(
            f"{text!r} names no batch, no generation and no event",
            fix="drp batches ls, drp warehouse ls or drp quarantine ls",
        )
    return found


async def _batch_id(postgres: Postgres, text: str) -> uuid.UUID | None:
    """The batch, if the text can name one; more than one is an error."""
    if text != "last" and (not text or not _HEXADECIMAL.issuperset(text)):
        return None
    try:
        return await reading.find_batch_id(postgres, text)
    except Permanent as error:
        if text == "last" or "more than one" in error.what:
            raise
        return None


async def _batch(postgres: Postgres, batch: Record) -> Explanation:
    said, commands = await _batch_said(postgres, batch)
    counts = ", ".join(
        f"{batch[name]:,} {name.replace('_', '-')}"
        for name in ("accepted", "duplicate", "quarantined", "dead_lettered")
        if batch[name]
    )
    sentences = [*said, f"Its events: {counts or 'none yet'}."]
    if batch["quarantined"] or batch["dead_lettered"]:
        commands.append(f"drp quarantine ls --batch {batch['id']}")
    if batch["closed_at"] is not None and batch["archived_at"] is None:
        sentences.append("It is not archived yet.")
    return Explanation(
        subject=batch_subject(batch["id"]),
        state=batch["status"],
        sentences=sentences,
        next=commands,
        actions=await actions_on(postgres, batch_subject(batch["id"])),
    )


async def _batch_said(postgres: Postgres, batch: Record) -> tuple[list[str], list[str]]:
    """Why the batch is where it is, and the commands that lead on."""
    number, generation = batch["id"], batch["last_generation"]
    match batch["status"]:
        case "open":
            return (
                [f"It is open since {_at(batch['opened_at'])}: it closes once it is full or old enough."],
                [f"drp batches close {number}"],
            )
        case "empty":
            return ["No row of it was accepted, so there is nothing to build from it."], []
        case "held":
            return (
                [
                    f"It is left out of every generation since {_at(batch['held_at'])}: {batch['held_reason']}."
                ],
                [f"drp batches release {number} --because …"],
            )
        case "published":
            return (
                [f"Readers see it since generation {batch['generation']}."],
                [f"drp trace {number}"],
            )
        case "blocked":
            rules = [_rule(rule) for rule in batch["broken_rules"]]
            return (
                [f"The quality gate blocks generation {generation}, which carries it.", *rules],
                [
                    f"drp quality show {generation}",
                    f"drp batches hold {number} --because …",
                    f"drp quality accept {generation} --because …",
                ],
            )
    return await _on_its_way(postgres, batch)


async def _on_its_way(postgres: Postgres, batch: Record) -> tuple[list[str], list[str]]:
    pinned = await postgres.fetchrow(_PINNED, batch["dataset"])
    if pinned is not None and pinned["pinned_at"] is not None:
        since = _at(pinned["pinned_at"])
        return (
            [f"Nothing of {batch['dataset']} is published since {since}: {pinned['pinned_reason']}."],
            ["drp warehouse resume"],
        )
    generation, wait = batch["last_generation"], [f"drp batches wait {batch['id']}", "drp status --health"]
    match batch["status"]:
        case "building":
            return [f"Generation {generation}, which takes it up, is being built."], wait
        case "built":
            return [f"Generation {generation} is built and waits for the verdict of the quality gate."], wait
        case "passed":
            return [f"Generation {generation} passed the quality gate and is about to be published."], wait
    other = await postgres.fetchrow(_IN_THE_WAY, batch["dataset"])
    said = [f"It is closed since {_at(batch['closed_at'])}, and no generation has taken it up yet."]
    if other is None:
        return said, wait
    said.append(f"Generation {other['number']} is {other['state']} before it.")
    return said, [f"drp why {other['number']}", *wait]


async def _generation(postgres: Postgres, row: Record) -> Explanation:
    number, dataset = row["number"], row["dataset"]
    said, commands = await _generation_said(postgres, row)
    sentences = [f"It was made of {_batches(row['batches'])}, {_made(row)}.", *said]
    if row["override_reason"] is not None:
        reason = row["override_reason"]
        sentences.append(f"The quality gate had blocked it, and an operator accepted it: {reason}.")
    if row["pinned_at"] is not None:
        since = _at(row["pinned_at"])
        sentences.append(f"Publishing of {dataset} stands still since {since}: {row['pinned_reason']}.")
        commands.append("drp warehouse resume")
    if row["error"] is not None:
        sentences.append(f"Its last error: {row['error']}")
    subject = generation_subject(number)
    return Explanation(
        subject=subject,
        state=row["state"],
        sentences=sentences,
        next=commands,
        actions=await actions_on(postgres, subject, f"dataset:{dataset}"),
    )


async def _generation_said(postgres: Postgres, row: Record) -> tuple[list[str], list[str]]:
    """Why the generation is where it is, and the commands that lead on."""
    number, current = row["number"], row["current"]
    match row["state"]:
        case "published":
            said = f"Readers of {row['dataset']} see it; it was first published {_at(row['published_at'])}."
            return [said], [f"drp quality show {number}"]
        case "retired":
            return (
                [f"Readers saw it once; now they see generation {current}."],
                [f"drp warehouse rollback --to {number} --because …"],
            )
        case "blocked":
            rules = await reading.quality_results(postgres, number)
            broken = [_rule(rule) for rule in rules if rule["status"] in ("fail", "error")]
            seen = "nothing yet" if current is None else f"generation {current}"
            return (
                ["The quality gate blocks it.", *broken, f"Readers still see {seen}."],
                [f"drp quality show {number}", f"drp quality accept {number} --because …"],
            )
    said = {
        "building": f"It is being built by {row['holder'] or 'a transformer'}.",
        "abandoned": "Its build was given up, and another took its place.",
        "built": "It waits for the verdict of the quality gate.",
        "passed": "It may be published"
        + ("." if row["pinned_at"] else ", and the transformer is about to do it."),
        "pruned": "Readers saw it once; its file was removed since.",
    }[row["state"]]
    return [said], ["drp warehouse ls"]


async def _quarantined(postgres: Postgres, datasets: Mapping[str, Dataset], number: int) -> Explanation:
    seen = await examined(postgres, datasets, number)
    sentences = [f"It was not taken ({seen['reason']}): {seen['detail']}.", f"That is, {seen['meaning']}."]
    match seen["state"]:
        case "open" if seen["fixed"] is not None:
            sentences.append(f"{seen['fixed_by']} corrected it; published now it would be {seen['outcome']}.")
        case "open":
            sentences.append(f"Published again as it is, it would be {seen['outcome']}.")
        case "discarded":
            sentences.append(f"An operator put it away at {_at(seen['settled_at'])}.")
        case "redriven":
            became = seen["became"]
            where = "has not landed yet" if became is None else f"landed in batch {became['batch_id']}"
            sentences.append(f"It was published again as entry {seen['redriven_entry']}, which {where}.")
    return Explanation(
        subject=f"{_QUARANTINE}{number}",
        state=seen["state"],
        sentences=sentences,
        next=[f"drp quarantine show {number}", *seen["next"]],
        actions=seen["actions"],
    )


async def _events(postgres: Postgres, datasets: Mapping[str, Dataset], text: str) -> list[Explanation]:
    if not is_writable(text):
        return []
    found = []
    for dataset in datasets.values():
        rows = await versions(postgres, dataset, text, limit=_AT_MOST, newest_first=True)
        found += [await _landed(postgres, row) for row in rows]
    slots = await postgres.fetch(_NOT_TAKEN, text, _AT_MOST)
    return [*found, *[await _quarantined(postgres, datasets, row["id"]) for row in slots]]


async def _landed(postgres: Postgres, row: Row) -> Explanation:
    batch = await reading.batch(postgres, row["batch_id"])
    said, _ = await _batch_said(postgres, batch)
    sentences = [f"It landed at {_at(row['ingested_at'])} ({row['origin']}) in batch {row['batch_id']}."]
    rule = await postgres.fetchval(_BROKEN, row["batch_id"], row["source_system"], row["event_id"])
    if (newer := superseded_by(row)) is not None:
        sentences.append(f"Event {newer} says something newer of {row['key']}, and counts in its place.")
    elif rule is not None:
        stands = ": it stands with the rejected ones" if row["generation"] is not None else ""
        sentences.append(f"Its row breaks the rule {rule}{stands}.")
    return Explanation(
        subject=f"event:{row['event_id']}",
        state=batch["status"],
        sentences=[*sentences, *said],
        next=[f"drp why {row['batch_id']}"],
        actions=[],
    )


def _number(text: str, whole: str) -> int:
    if not text.isdigit() or len(text) > 18:
        raise Permanent(f"{whole!r} names no quarantined event", fix="drp quarantine ls")
    return int(text)


def _batches(count: int) -> str:
    return f"{count:,} {'batch' if count == 1 else 'batches'}"


def _made(row: Record) -> str:
    on = "from all of RAW" if row["kind"] == "full" else f"on top of generation {row['parent']}"
    rejected = f", {row['rejected']:,} rows rejected" if row["rejected"] else ""
    return f"{on}{rejected}"


def _rule(rule: Record) -> str:
    if rule["status"] == "error":
        return f"The rule {rule['rule']} could not be judged: {rule['detail']}."
    many = "" if rule["unexpected"] is None else f" by {rule['unexpected']:,} of {rule['evaluated']:,} rows"
    return f"The rule {rule['rule']} is broken{many}."


def _at(moment: Any) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
