"""The `drp` commands that say, or do, the same as a page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

__all__ = ["Command", "commands_for"]


class Command(NamedTuple):
    """What to type, and what it is for."""

    line: str
    does: str


def commands_for(batch: Mapping[str, Any]) -> list[Command]:
    """Of a batch, as libs.operations.reading.batch tells it."""
    name, generation = batch["id"], batch["last_generation"]
    found = [
        Command(f"drp batches show {name}", "this page"),
        Command(f"drp why {name}", "why it is where it is"),
        Command(f"drp trace {name}", "its trace"),
        Command(f"drp ledger show {name}", "its counts beside the rows that are there"),
    ]
    if generation is not None:
        found.append(Command(f"drp quality show {generation}", "what the gate found"))
    if batch["quarantined"] or batch["dead_lettered"]:
        found.append(Command(f"drp quarantine ls --batch {name}", "what was not taken"))
    if batch["status"] in ("closed", "building", "built", "passed"):
        found.append(Command(f"drp batches wait {name}", "until readers see it"))
    if batch["status"] == "held":
        found.append(Command(f"drp batches release {name} --reason …", "put it back"))
    elif batch["closed_at"] is not None and batch["accepted"]:
        found.append(Command(f"drp batches hold {name} --reason …", "leave it out"))
    return found
