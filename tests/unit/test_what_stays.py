"""What makes a redelivery count nothing is never deleted (docs/decisions/0014-what-grows.md)."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
STAYS = re.compile(
    r"(DELETE\s+FROM|TRUNCATE(\s+TABLE)?|DROP\s+TABLE)\s+(ONLY\s+)?"
    r"(ops\.(entries|inbox|outbox|quality_failures)|raw\.quarantine)\b",
    re.IGNORECASE,
)


def test_no_statement_of_ours_deletes_from_the_ledgers_tables() -> None:
    sources = [
        *ROOT.glob("libs/**/*.py"),
        *ROOT.glob("services/**/*.py"),
        *ROOT.glob("deploy/migrations/*.sql"),
    ]
    assert len(sources) > 100
    assert [path for path in sources if STAYS.search(path.read_text())] == []
    assert STAYS.search("delete\n  from ops.entries WHERE true")
