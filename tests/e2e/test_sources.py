"""Where events may come from beside the stream, and where each one is found: pipes, an API that is asked, a batch
that was archived, a dataset that was made from a sample."""

from __future__ import annotations

import gzip
import json
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from libs.testing.platform import RunningPlatform
from tests.e2e.command_line.calling import until_said
from tests.e2e.conftest import Start

pytestmark = pytest.mark.heavy

ROWS = "order_id,customer_id,amount,created_at\nP-1,C-1,10.50,2026-01-05T09:30:00Z\nP-2,C-1,1.25,2026-01-05\n"
RECORDS = ("--records", "records")


SAMPLE = "Parcel No,to,weight,sent\n7,Ada,1.5,2026-01-05T09:30:00Z\n8,Ben,,2026-01-06T08:00:00Z\n"


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sample") / "parcels.csv"
    path.write_text(SAMPLE)
    return path


@pytest.fixture(scope="module")
def platform(start: Start, sample: Path) -> RunningPlatform:
    """It has a dataset that was made of a sample."""
    maker = RunningPlatform(sample.parent / "nowhere")
    into = sample.parent / "datasets"
    maker.drp("dataset", "init", "parcels", "--from", str(sample), "--into", str(into))
    maker.drp("dataset", "check", str(into / "parcels"))
    return start(DRP_DATASETS_DIR=str(into))


def piped(platform: RunningPlatform, body: bytes, *arguments: str) -> Any:
    """What the command says with --json of what is piped into it."""
    done = subprocess.run(
        platform.command("publish", *arguments, "--json"),
        env=platform.environment,
        input=body,
        capture_output=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def counts(platform: RunningPlatform) -> tuple[int, int]:
    platform.settle()
    report = platform.ledger()
    assert (report.unaccounted, list(report.problems)) == (0, [])
    return report.accepted, report.duplicate


def pulling(
    platform: RunningPlatform, end: signal.Signals, url: str, *options: str, once: str
) -> tuple[int, Any, str]:
    """The address asked again and again, until the signal: exit code, document, and what was said."""
    arguments = ("publish", "--url", url, *options, "--every", "1h", "--json")
    with subprocess.Popen(
        platform.command(*arguments),
        env=platform.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stderr is not None
        heard = until_said(running.stderr, once)
        running.send_signal(end)
        out, err = running.communicate(timeout=240)
    return running.returncode, json.loads(out), heard + err


def test_what_is_piped_in_is_told_by_its_first_bytes(platform: RunningPlatform) -> None:
    done = piped(platform, gzip.compress(ROWS.encode()), "--file", "-")
    lines = b'{"order_id":"P-3","customer_id":"C-2","amount":"3.00","created_at":"2026-01-05T10:00:00Z"}\n'
    piped(platform, lines, "-")
    assert (done["events"], done["source"]) == (2, "urn:drp:stdin")
    assert counts(platform) == (3, 0)


def test_the_same_pipe_adds_nothing_and_another_source_is_another_event(platform: RunningPlatform) -> None:
    piped(platform, ROWS.encode(), "-", "--format", "csv")
    piped(platform, ROWS.encode(), "-", "--source", "urn:shop")
    assert counts(platform) == (5, 2)


def test_the_generator_s_orders_are_a_source_as_they_are(platform: RunningPlatform) -> None:
    url = f"{platform.urls['DRP_GENERATOR_URL']}/v1/orders"
    pull = ("publish", "--url", f"{url}?limit=300&seed=7", "--records", "records")
    done = [platform.json(*pull) for _ in range(2)]
    assert [(one["records"], one["events"], one["source"]) for one in done] == [(300, 300, url)] * 2
    assert counts(platform) == (305, 302)

    refused = platform.run("publish", "--url", f"{url}?limit=5000", "--records", "records")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert f"{url} answered 422" in refused.stderr


def test_rounds_end_cleanly_by_both_signals(platform: RunningPlatform) -> None:
    url = f"{platform.urls['DRP_GENERATOR_URL']}/v1/orders?limit=50&seed=8"
    code, document, said = pulling(platform, signal.SIGINT, url, *RECORDS, once="50 records")
    assert (code, document["rounds"], document["events"]) == (130, 1, 50)
    assert said.endswith("drp: interrupted\n")
    code, document, _ = pulling(platform, signal.SIGTERM, url, *RECORDS, once="50 records")
    assert (code, document["rounds"], document["events"]) == (0, 1, 50)
    assert counts(platform) == (355, 352)


@contextmanager
def answering(*answers: HTTPStatus) -> Iterator[str]:
    """An API without records that answers so, the last one for good; its address."""
    left = list(answers)

    class Records(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(left.pop(0) if len(left) > 1 else left[0])
            self.send_header("Content-Length", "2")
            self.send_header("Retry-After", "600")
            self.end_headers()
            self.wfile.write(b"[]")

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
            """Nobody reads it."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Records) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


def test_the_exit_code_of_rounds_tells_how_they_ended(platform: RunningPlatform) -> None:
    with answering(HTTPStatus.SERVICE_UNAVAILABLE) as url:
        code, document, said = pulling(platform, signal.SIGTERM, url, once="this round failed")
    assert (code, document["rounds"], document["failed"]) == (3, 1, 1)
    assert "the last round failed" in said

    with answering(HTTPStatus.OK, HTTPStatus.NOT_FOUND) as url:
        ended = platform.run("publish", "--url", url, "--every", "0.01s")
    assert (ended.returncode, ended.stderr.count("this round failed")) == (1, 3)
    assert f"drp: {url} answered 404 Not Found, 3 rounds in a row" in ended.stderr


def test_a_batch_of_the_archive_adds_nothing_where_it_landed(
    platform: RunningPlatform, tmp_path: Path
) -> None:
    (key, *_) = [row["key"] for row in platform.json("archive", "ls") if row["kind"] == "raw"]
    document = tmp_path / "kept.jsonl.gz"
    platform.drp("archive", "get", key, "--output", str(document))
    done = platform.json("publish", str(document))
    assert (done["source"], done["events"] > 0) == (None, True)
    assert counts(platform) == (355, 352 + done["events"])


def test_an_archived_event_that_is_too_large_is_left_out_and_the_exit_code_says_so(
    platform: RunningPlatform, tmp_path: Path
) -> None:
    """Neither the ingestor nor the archiver makes one: somebody has changed what was stored."""
    accepted, duplicate = counts(platform)
    line = {
        "envelope": {"specversion": "1.0", "id": "large", "source": "urn:test:large", "type": "order.placed"},
        "data": {"note": "x" * 270_000},
        "slot": "1-1/0",
    }
    document = tmp_path / "large.jsonl"
    document.write_text(json.dumps(line) + "\n")
    refused = platform.run("publish", str(document), "--json")
    assert (refused.returncode, json.loads(refused.stdout)["too_large"]) == (3, 1)
    assert "NOT published: 1 event was left out" in refused.stderr

    changed = "UPDATE raw.orders_raw SET raw_payload = {} WHERE source_order_id = 'P-3' RETURNING batch_id"
    (row,) = platform.rows(changed.format("raw_payload || jsonb_build_object('x', repeat('x', 270000))"))
    try:
        again = platform.run("replay", "--from", "raw", "--batch", str(row["batch_id"]), "--yes", "--json")
    finally:
        platform.rows(changed.format("raw_payload - 'x'"))
    found = json.loads(again.stdout)
    assert (again.returncode, found["too_large"]) == (3, 1)
    assert "NOT published: 1 event was left out" in again.stderr
    assert counts(platform) == (accepted, duplicate + found["events"])


def test_an_order_s_life_is_found_and_its_batch_adds_up(platform: RunningPlatform) -> None:
    versions = platform.json("events", "find", "P-1")["events"]
    assert [(life["source"], life["place"]) for life in versions] == [
        ("urn:drp:stdin", "superseded"),
        ("urn:shop", "staged"),
    ]
    (life,) = platform.json("events", "find", f"urn:shop/{versions[1]['event_id']}")["events"]
    assert life == versions[1]
    assert (life["generation"] > 0, life["object"].endswith(f"batch_id={life['batch']}.jsonl.gz")) == (
        True,
        True,
    )
    assert life["batch"] in platform.drp("events", "find", "P-1")
    found = platform.json("events", "find", life["trace"])
    assert life["batch"] in [batch["id"] for batch in found["batches"]]

    ledger = platform.json("ledger", "show", life["batch"])
    assert ledger["received"] == ledger["accepted"] + ledger["duplicate"] + ledger["quarantined"] > 0
    assert (ledger["raw_rows"], ledger["problems"]) == (ledger["accepted"], [])

    nothing = platform.run("events", "find", "P-0", "--json")
    assert (nothing.returncode, json.loads(nothing.stdout)["events"]) == (1, [])
    assert "Nothing is called 'P-0'" in nothing.stderr


def test_a_dataset_made_of_a_sample_takes_it_to_its_mart(platform: RunningPlatform, sample: Path) -> None:
    platform.drp("publish", "--dataset", "parcels", "--file", str(sample))
    platform.settle()
    days = platform.ask(
        "SELECT * EXCLUDE (last_refreshed_at) FROM analytics.parcels_by_day", dataset="parcels"
    )
    assert [(day["event_day"], day["number_of_parcels"], day["total_weight"]) for day in days] == [
        ("2026-01-05", 1, "1.5"),
        ("2026-01-06", 1, "0.0"),
    ]
    (life,) = platform.json("events", "find", "7")["events"]
    assert (life["dataset"], life["key"], life["place"]) == ("parcels", "7", "staged")
