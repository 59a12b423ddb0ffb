"""What is wrong with a contract, said with its place and what to write instead."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from libs.errors import Permanent

__all__ = ["ContractError", "Problem"]


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake. line counts from 1; instead is what to write."""

    file: Path
    line: int
    what: str
    instead: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.what}; write instead: {self.instead}"


class ContractError(Permanent):
    """A dataset folder cannot be used. problems holds every mistake found, at least one."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)
