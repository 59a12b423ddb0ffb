"""A candidate's file before the judge: is it the file that was built, and does it keep every rule?"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from libs.adapters.warehouse import Database
from libs.adapters.warehouse.folder import sha256_of
from libs.datasets import Dataset
from libs.errors import Permanent, Transient
from services.validator.domain import Candidate, Facts, RuleResult, Status, file_result
from services.validator.judge import Judge
from services.validator.rows import expose_batches, judge_row_rules
from services.validator.tables import judge_custom_rules, judge_freshness, judge_table_rules

__all__ = ["could_not_judge", "examine"]

T = TypeVar("T")


def examine(
    path: Path, candidate: Candidate, dataset: Dataset, facts: Facts, judge: Judge
) -> list[RuleResult]:
    """Judge every rule of the dataset on the candidate. Blocks: for the judge's thread.

    Raises:
        Transient: the file could not be read this time.
    """
    problem = _file_problem(path, candidate)
    if problem is not None:
        return could_not_judge(dataset, problem)
    try:
        with Database.generation(path) as database:
            expose_batches(database, facts.new)
            return [file_result(None), *_rules(database, dataset, facts, judge)]
    except Permanent as error:
        return could_not_judge(dataset, str(error))


def could_not_judge(dataset: Dataset, problem: str) -> list[RuleResult]:
    """The results when there is nothing to judge: the problem, and every rule `not run` because of it."""
    return [
        file_result(problem),
        *(_idle(name, kind, expectation) for name, kind, expectation in _names(dataset)),
    ]


def _rules(database: Database, dataset: Dataset, facts: Facts, judge: Judge) -> list[RuleResult]:
    return [
        *_row_rules(lambda: judge_row_rules(database, dataset, judge), dataset),
        *judge_table_rules(database, dataset, facts, judge),
        *judge_freshness(dataset.freshness, facts, judge),
        *judge_custom_rules(database, dataset, judge),
    ]


def _row_rules(judged: Callable[[], list[RuleResult]], dataset: Dataset) -> list[RuleResult]:
    try:
        return judged()
    except Permanent as error:
        return [
            RuleResult(
                rule=rule.name,
                kind="row",
                status=Status.ERROR,
                expectation=rule.expectation.type,
                tolerance=rule.tolerance,
                detail=str(error),
            )
            for rule in dataset.row_rules
        ]


def _file_problem(path: Path, candidate: Candidate) -> str | None:
    try:
        found = sha256_of(path)
    except FileNotFoundError:
        return f"{path.name} is missing"
    except OSError as error:
        raise Transient(f"could not read {path.name}", why=error.strerror) from error
    if found == candidate.sha256:
        return None
    return (
        f"{path.name} is not the file that was built: sha256 {found[:12]}…, recorded {candidate.sha256[:12]}…"
    )


def _names(dataset: Dataset) -> Iterable[tuple[str, str, str]]:
    yield from ((rule.name, "row", rule.expectation.type) for rule in dataset.row_rules)
    yield from ((rule.name, "table", rule.expectation.type) for rule in dataset.table_rules)
    yield from ((rule.name, "custom", rule.expectation.type) for rule in dataset.custom_rules)


def _idle(name: str, kind: str, expectation: str) -> RuleResult:
    return RuleResult(
        rule=name,
        kind=kind,
        status=Status.NOT_RUN,
        expectation=expectation,
        detail="the candidate could not be judged",
    )
