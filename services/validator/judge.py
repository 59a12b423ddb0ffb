"""Great Expectations, behind one small door: a frame and expectations in, outcomes out.

Importing it takes seconds and 240 MB, so it happens late and once, on the judge's own thread. Measured: while
that thread imports, an event loop beside it answers within a tenth of a second.
"""

from __future__ import annotations

import builtins
import logging
import math
import numbers
import os
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from libs.datasets import Expectation

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Judge", "Outcome", "Scope", "plain"]

log = logging.getLogger("drp.validator")

_RESULT_FORMAT: Final = {
    "result_format": "COMPLETE",
    "include_unexpected_rows": False,
    "return_unexpected_index_query": False,
}
_NUMBER: Final = "drp_number"
_METRIC: Final = re.compile(r"metric_name='([\w.]+)'")
_MAP_BASES: Final = ("ColumnMapExpectation", "ColumnPairMapExpectation", "MulticolumnMapExpectation")
_WHOLE_COLUMN: Final = frozenset(
    {
        "expect_column_values_to_be_unique",
        "expect_compound_columns_to_be_unique",
        "expect_column_values_to_be_increasing",
        "expect_column_values_to_be_decreasing",
        "expect_column_value_z_scores_to_be_less_than",
        "expect_column_values_to_not_be_outliers",
    }
)
"""Map expectations that judge a row by its neighbours: they need the whole relation, not the new rows."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an expectation said of a frame.

    success is None when it could not be evaluated; error then says why. positions are the row numbers of the
    frame that it calls broken (map expectations only). observed is the value it saw (aggregates only), is_number
    whether that is one.
    """

    success: bool | None
    evaluated: int | None = None
    unexpected: int | None = None
    positions: Sequence[int] = ()
    observed: str | None = None
    is_number: bool = False
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Scope:
    """rows = True: the expectation judges row by row, so it can be asked about new rows alone."""

    rows: bool


class Judge:
    """Great Expectations in an ephemeral context. Not for several threads at once: give it one of its own."""

    def __init__(self) -> None:
        self._frames: Any = None
        self._gx: Any = None

    def warm(self) -> None:
        """Import it and judge a tiny frame, so that the first candidate needn't wait. Blocking, seconds."""
        import pandas as pd

        frame = pd.DataFrame({"value": [1.0]})
        between = Expectation("expect_column_values_to_be_between", {"column": "value", "min_value": 0})
        outcome = self.judge(frame, [between])[0]
        if outcome.success is not True:
            log.error("Great Expectations does not work here: %s", outcome.error)

    def scope(self, expectation_type: str) -> Scope | None:
        """Whether an expectation judges rows or a whole relation; None if there is none of that name."""
        found = self._class(expectation_type)
        if found is None:
            return None
        bases = {cls.__name__ for cls in found.__mro__}
        by_row = not bases.isdisjoint(_MAP_BASES) and expectation_type not in _WHOLE_COLUMN
        return Scope(rows=by_row)

    def judge(self, frame: pd.DataFrame, expectations: Sequence[Expectation]) -> list[Outcome]:
        """Each expectation's outcome on the frame, in their order. One that is wrong spoils no other.

        No outcome's error quotes the frame.
        """
        built = [self._build(expectation) for expectation in expectations]
        good = [one for one in built if not isinstance(one, Outcome)]
        answers = iter(self._validate(frame, good))
        return [one if isinstance(one, Outcome) else next(answers) for one in built]

    def _validate(self, frame: pd.DataFrame, expectations: Sequence[Any]) -> list[Outcome]:
        if not expectations:
            return []
        try:
            return self._answers(frame, expectations)
        except Exception as error:  # noqa: BLE001 - a contract may name any expectation, and any may raise anything
            if len(expectations) == 1:
                return [Outcome(None, error=f"Great Expectations raised {type(error).__name__}")]
        # Nothing tells whose it was: each is asked alone.
        return [self._validate(frame, [one])[0] for one in expectations]

    def _answers(self, frame: pd.DataFrame, expectations: Sequence[Any]) -> list[Outcome]:
        self._load()
        batch = self._frames.get_batch({"dataframe": frame})
        for number, one in enumerate(expectations):
            one.meta = {_NUMBER: number}  # a suite answers in an order of its own
        suite = self._gx.ExpectationSuite(name="contract", expectations=list(expectations))
        answers = batch.validate(suite, result_format=_RESULT_FORMAT).results
        told = {one.expectation_config.meta[_NUMBER]: _outcome(one, len(frame)) for one in answers}
        silent = Outcome(None, error="Great Expectations gave no answer")
        return [told.get(number, silent) for number in range(len(expectations))]

    def unknown(self, expectation: Expectation) -> Outcome:
        return Outcome(None, error=f"there is no expectation {expectation.type!r} in Great Expectations")

    def _build(self, expectation: Expectation) -> Any:
        found = self._class(expectation.type)
        if found is None:
            return self.unknown(expectation)
        arguments = {name: plain(value) for name, value in expectation.kwargs.items()}
        if expectation.mostly is not None:
            arguments["mostly"] = expectation.mostly
        try:
            return found(**arguments)
        except Exception as error:  # noqa: BLE001 - it has seen no row: its text speaks of the contract
            return Outcome(
                None, error=f"{expectation.type} doesn't take these arguments: {_one_line(str(error))}"
            )

    def _class(self, expectation_type: str) -> Any:
        self._load()
        registry = self._gx.expectations.registry
        try:
            return registry.get_expectation_impl(expectation_type)
        except self._gx.exceptions.ExpectationNotFoundError:
            return None

    def _load(self) -> None:
        if self._gx is not None:
            return
        os.environ["GX_ANALYTICS_ENABLED"] = "false"  # read on import; nothing leaves this machine
        logging.getLogger("great_expectations").setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what it imports is deprecated in places; not ours to mend
            import great_expectations as gx
            import great_expectations.expectations.registry
            from great_expectations.data_context.types.base import ProgressBarsConfig

            context = gx.get_context(mode="ephemeral")
        context.variables.progress_bars = ProgressBarsConfig(globally=False)
        source = context.data_sources.add_pandas("candidate")
        self._frames = source.add_dataframe_asset("frame").add_batch_definition_whole_dataframe("whole")
        self._gx = gx


def plain(value: object) -> object:
    """A contract's value as a pandas column holds it: numbers as floats, moments as they are."""
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, Mapping):
        return {name: plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(one) for one in value]
    return value


def _outcome(answer: Any, rows: int) -> Outcome:
    error = _raised(answer.exception_info)
    if error is not None:
        return Outcome(None, error=error)
    result: Mapping[str, Any] = answer.result
    observed = result.get("observed_value")
    return Outcome(
        success=bool(answer.success),
        evaluated=_evaluated(result, rows),
        unexpected=result.get("unexpected_count"),
        positions=result.get("unexpected_index_list") or (),
        observed=None if observed is None else _shown(observed),
        is_number=isinstance(observed, numbers.Number),
    )


def _evaluated(result: Mapping[str, Any], rows: int) -> int:
    count: int = result.get("element_count", rows)
    missing: int = result.get("missing_count") or 0
    return count - missing


def _raised(info: Mapping[str, Any]) -> str | None:
    """What could not be worked out, if exception_info (flat, or one such record a metric) says that it raised.

    The exception's text may quote a row, so it is left out: what is said is the metric and the class.
    """
    records = {"": info} if "raised_exception" in info else info
    for metric, record in records.items():
        if record.get("raised_exception"):
            named = _METRIC.search(str(metric))
            where = f" at {named[1]}" if named is not None else ""
            return f"Great Expectations raised {_class_in(str(record.get('exception_traceback')))}{where}"
    return None


def _class_in(traceback: str) -> str:
    """The class of the exception that a traceback ends with. Only Great Expectations' and Python's own are
    named: a line of a row may look like one."""
    import great_expectations.exceptions

    for line in reversed(traceback.splitlines()):
        name = line.split(":")[0].strip().rpartition(".")[2]
        for home in (great_expectations.exceptions, builtins):
            found = getattr(home, name, None)
            if isinstance(found, type) and issubclass(found, Exception):
                return name
    return "an exception"


def _one_line(text: str) -> str:
    return " ".join(text.split())[:500]


def _shown(value: object) -> str:
    if isinstance(value, float) and math.isfinite(value) and value == int(value):
        return str(int(value))
    if isinstance(value, datetime | date):
        return value.isoformat()
    return str(value)[:200]
