"""Every line of a process has one shape, whoever writes it."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator

import msgspec
import pytest

from libs.adapters import telemetry
from libs.adapters.logs import LogFormat, configure_logs
from libs.adapters.telemetry import span


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [msgspec.json.decode(line) for line in capsys.readouterr().err.splitlines()]


def test_a_line_says_when_who_and_in_which_trace(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("ingestor", log_format="json")
    with span("land") as this:
        logging.getLogger("drp.batches").info("closed %s", "b1", extra={"rows": 3})
    (line,) = lines(capsys)
    assert str(line.pop("time")).endswith("Z")
    assert len(str(line.pop("span_id"))) == 16
    assert line == {
        "level": "INFO",
        "logger": "drp.batches",
        "message": "closed b1",
        "service": "ingestor",
        "rows": 3,
        "trace_id": this.trace_id,
    }


def test_a_line_outside_of_a_trace_names_none(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("ingestor", log_format="json")
    logging.getLogger("drp").warning("waiting")
    (line,) = lines(capsys)
    assert "trace_id" not in line


def test_libraries_that_bring_their_own_handlers_write_one_line_of_ours(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure_logs("ingestor", log_format="json")
    for name in ("faststream", "faststream.access.redis", "uvicorn", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.propagate = False
        logger.addHandler(logging.StreamHandler(sys.stdout))
        logger.error("from %s", name)
    read = capsys.readouterr()
    assert read.out == ""
    assert len(read.err.splitlines()) == 4


def test_an_exception_stays_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("ingestor", log_format="json")
    try:
        raise ValueError("no")
    except ValueError:
        logging.getLogger("drp").exception("failed")
    (line,) = lines(capsys)
    assert "ValueError: no" in str(line["exception"])


def test_setting_up_twice_does_not_write_twice(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("a", log_format="json")
    configure_logs("b", log_format="json")
    logging.getLogger("drp").info("once")
    assert [line["service"] for line in lines(capsys)] == ["b"]


def test_warnings_of_libraries_are_lines_too(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("ingestor", log_format="json")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)
        warnings.warn("old ways", UserWarning, stacklevel=1)
    assert lines(capsys)[0]["logger"] == "py.warnings"


@pytest.mark.parametrize("log_format", ["text", "auto"])
def test_on_a_terminal_a_line_is_text(
    log_format: LogFormat, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    configure_logs("ingestor", log_format=log_format)
    logging.getLogger("drp").info("closed", extra={"rows": 3})
    assert capsys.readouterr().err.rstrip().endswith("INFO    ingestor drp: closed rows=3")


def test_probes_and_scrapes_are_not_logged(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("ingestor", log_format="json")
    logging.getLogger("uvicorn.access").info('GET /livez "200"')
    assert capsys.readouterr().err == ""


def test_logs_that_are_another_programs_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry._current, "provider", None)
    root = logging.getLogger()
    before = list(root.handlers)
    telemetry.setup("flows", logs=False).shutdown()
    assert root.handlers == before
    telemetry.setup("flows").shutdown()
    assert root.handlers != before
