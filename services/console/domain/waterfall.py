"""A trace as a waterfall: where each step's bar stands along the batch's time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

__all__ = ["BAR_WIDTH", "DrawnStep", "drawn_steps"]

BAR_WIDTH: Final = 400
_LEAST: Final = 2.0
SHOWN: Final = 300
"""So many steps are drawn; a trace with more is for the trace store's own page."""


class Step(Protocol):
    """What is taken of libs.operations.trace.Step."""

    @property
    def depth(self) -> int: ...
    @property
    def offset(self) -> float: ...
    @property
    def duration(self) -> float: ...
    @property
    def service(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def error(self) -> str | None: ...
    @property
    def linked(self) -> bool: ...


class Trace(Protocol):
    @property
    def duration(self) -> float: ...
    @property
    def steps(self) -> Sequence[Step]: ...


@dataclass(frozen=True, slots=True)
class DrawnStep:
    """A line of the waterfall; a linked step happened elsewhere, often before, and has no bar."""

    step: Step
    x: float
    width: float


def drawn_steps(trace: Trace) -> list[DrawnStep]:
    scale = BAR_WIDTH / trace.duration if trace.duration > 0 else 0.0
    return [_drawn(step, scale) for step in trace.steps[:SHOWN]]


def _drawn(step: Step, scale: float) -> DrawnStep:
    if step.linked:
        return DrawnStep(step, 0.0, 0.0)
    width = max(_LEAST, step.duration * scale)
    return DrawnStep(step, round(min(step.offset * scale, BAR_WIDTH - width), 1), round(width, 1))
