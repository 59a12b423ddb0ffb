"""What the gate decided: now, over the last generations, and on one of them row by row."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from libs.errors import Permanent
from libs.operations import reading
from libs.operations.judged import AppliedBatch, Judged, Readable, batches_applied, judged, readable
from libs.operations.warehouse import acceptable
from services.console.doors import Doors, Missing
from services.console.looks.failing import FailingRow, failing_row, told_check
from services.console.looks.heat import Answer, Row, answer, rows

__all__ = [
    "CHOSEN_ROWS",
    "ChosenGeneration",
    "DatasetQuality",
    "QualityChoice",
    "QualityPage",
    "look_at_quality",
]

GENERATIONS: Final = 30
CHOSEN_ROWS: Final = 25
BATCHES: Final = 12


class QualityChoice(msgspec.Struct, frozen=True, kw_only=True):
    """What the page's address says. generation None: the newest judged one."""

    dataset: str | None = None
    generation: int | None = None
    rule: str | None = None
    reveal: bool = False


class DatasetQuality(msgspec.Struct, frozen=True, kw_only=True):
    """A dataset's verdict now, and its rules over its last judged generations; answer None: nothing was judged."""

    answer: Answer | None
    judged: Judged
    readable: Readable | None
    rules: list[Row]


class ChosenGeneration(msgspec.Struct, frozen=True, kw_only=True):
    """The generation that is looked into, as libs.operations.reading tells it; its failing rows: of the chosen rule, if
    there is one. acceptable: an operator could have it published now."""

    generation: dict[str, Any]
    checks: list[dict[str, Any]]
    failing: list[FailingRow]
    batches: list[AppliedBatch]
    batches_in_all: int
    acceptable: bool

    @property
    def waiting(self) -> list[str]:
        """Its batches that wait because it is blocked."""
        return [str(batch.id) for batch in self.batches if batch.status == "blocked"]


class QualityPage(msgspec.Struct, frozen=True, kw_only=True):
    """What /quality shows; quality is None where Postgres couldn't be asked. names: datasets the console knows."""

    at: datetime
    missing: list[Missing]
    choice: QualityChoice
    names: list[str]
    quality: list[DatasetQuality] | None
    chosen: ChosenGeneration | None

    @property
    def empty(self) -> bool:
        return self.quality is not None and not any(one.judged.generations for one in self.quality)


class _Told(msgspec.Struct, frozen=True, kw_only=True):
    quality: list[DatasetQuality]
    chosen: ChosenGeneration | None


async def look_at_quality(doors: Doors, choice: QualityChoice) -> QualityPage:
    """
    Raises:
        Permanent: there is no such dataset, or no such generation.
    """
    names = sorted(doors.datasets)
    if choice.dataset is not None and choice.dataset not in names:
        raise Permanent("there is no such dataset", why=f"known: {', '.join(names)}", fix="drp dataset ls")
    refusal: Permanent | None = None

    async def told() -> _Told | None:
        nonlocal refusal
        try:
            return await _told(doors, choice, names)
        except Permanent as error:
            refusal = error
            return None

    at = datetime.now(UTC)
    seen = await doors.look("postgres", told)
    if refusal is not None:
        raise refusal
    return QualityPage(
        at=at,
        missing=[] if seen.missing is None else [seen.missing],
        choice=choice,
        names=names,
        quality=None if seen.value is None else seen.value.quality,
        chosen=None if seen.value is None else seen.value.chosen,
    )


async def _told(doors: Doors, choice: QualityChoice, names: list[str]) -> _Told:
    postgres = await doors.postgres()
    wanted = names if choice.dataset is None else [choice.dataset]
    if choice.generation is not None:
        of = (await reading.generation(postgres, choice.generation))["dataset"]
        if choice.dataset not in (None, of):
            raise Permanent(
                f"generation {choice.generation} is not of {choice.dataset}", fix="drp warehouse ls"
            )
    found, seen = await asyncio.gather(
        judged(postgres, wanted, limit=GENERATIONS), readable(postgres, wanted)
    )
    quality = [
        DatasetQuality(
            answer=answer(one, seen.get(one.dataset)),
            judged=one,
            readable=seen.get(one.dataset),
            rules=rows(one),
        )
        for one in found
    ]
    number = choice.generation or _worst(quality)
    return _Told(quality=quality, chosen=None if number is None else await _chosen(doors, number, choice))


def _worst(quality: list[DatasetQuality]) -> int | None:
    """The generation that somebody should look into: one that is blocked, else the newest that is judged."""
    answers = [one.answer for one in quality if one.answer is not None]
    blocked = [one.generation for one in answers if one.is_ in ("blocked", "unjudged")]
    return max(blocked or [one.generation for one in answers], default=None)


async def _chosen(doors: Doors, number: int, choice: QualityChoice) -> ChosenGeneration:
    postgres = await doors.postgres()
    generation, checks, failing, (batches, in_all) = await asyncio.gather(
        reading.generation(postgres, number),
        reading.quality_results(postgres, number),
        reading.quality_failures(postgres, number, rule=choice.rule, limit=CHOSEN_ROWS),
        batches_applied(postgres, number, limit=BATCHES),
    )
    blocked = generation["state"] == "blocked"
    return ChosenGeneration(
        generation=generation,
        checks=[told_check(one, reveal=choice.reveal) for one in checks],
        failing=[failing_row(row, reveal=choice.reveal) for row in failing],
        batches=batches,
        batches_in_all=in_all,
        acceptable=blocked and await acceptable(postgres, number),
    )
