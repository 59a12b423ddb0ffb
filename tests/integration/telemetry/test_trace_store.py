"""The stock exporter on one side, Jaeger's query API on the other, a real trace store between."""

from __future__ import annotations

import gzip
import os
import time
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from libs.adapters.telemetry import span
from libs.testing.waiting import until
from tests.integration.telemetry.conftest import Start

ELSEWHERE = f"00-{'1' * 32}-{'2' * 16}-01"


def ask(url: str, path: str, **params: str | int | list[str]) -> httpx.Response:
    with httpx.Client(trust_env=False) as client:
        return client.get(url + path, params=params or None)


def a_trace(url: str, trace_id: str) -> dict[str, Any]:
    (trace,) = ask(url, f"/api/traces/{trace_id}").json()["data"]
    return dict(trace)


def test_what_was_exported_is_answered_in_jaegers_shape(start: Start, traces: str) -> None:
    telemetry = start("ingestor", traces)
    attributes = {"drp.rows": 3, "drp.share": 0.5, "drp.full": True, "drp.batch": "b1"}
    with (
        span("ingest", root=True, links=[ELSEWHERE], attributes=attributes) as outer,
        pytest.raises(ValueError, match="no"),
        span("land"),
    ):
        raise ValueError("no")
    telemetry.flush()

    trace = a_trace(traces, outer.trace_id)
    ingest, land = trace["spans"]
    assert ingest["operationName"] == "ingest"
    assert ingest["references"] == [{"refType": "FOLLOWS_FROM", "traceID": "1" * 32, "spanID": "2" * 16}]
    assert land["references"] == [
        {"refType": "CHILD_OF", "traceID": outer.trace_id, "spanID": ingest["spanID"]}
    ]
    assert {tag["key"]: (tag["type"], tag["value"]) for tag in ingest["tags"]} == {
        "drp.rows": ("int64", 3),
        "drp.share": ("float64", 0.5),
        "drp.full": ("bool", True),
        "drp.batch": ("string", "b1"),
        "span.kind": ("string", "internal"),
    }
    assert {"key": "error", "type": "bool", "value": True} in land["tags"]
    fields = {field["key"]: field["value"] for field in land["logs"][0]["fields"]}
    assert fields == {"event": "exception", "exception.type": "ValueError", "exception.message": "no"}
    process = trace["processes"][ingest["processID"]]
    assert process["serviceName"] == "ingestor"
    assert "service.version" in {tag["key"] for tag in process["tags"]}
    assert abs(ingest["startTime"] / 1e6 - time.time()) < 60


def test_traces_are_found_by_service_step_and_tag(start: Start, traces: str) -> None:
    telemetry = start("searched", traces)
    ids = []
    for number in range(3):
        with span("search me", root=True, attributes={"drp.number": number}) as one:
            ids.append(one.trace_id)
    telemetry.flush()

    def found(**params: str | int) -> list[str]:
        answer = ask(traces, "/api/traces", service="searched", **params)
        return [trace["traceID"] for trace in answer.json()["data"]]

    assert set(found()) == set(ids)
    assert found(limit=1) == [ids[2]]
    assert found(tags='{"drp.number":"1"}') == [ids[1]]
    assert found(operation="another") == []
    assert found(end=1_000_000) == []
    several = ask(traces, "/api/traces", traceID=[ids[0], "9" * 32, ids[2]])
    assert [trace["traceID"] for trace in several.json()["data"]] == [ids[0], ids[2]]
    assert found(lookback="1h", minDuration="1h") == []
    assert "searched" in ask(traces, "/api/services").json()["data"]
    assert ask(traces, "/api/services/searched/operations").json()["data"] == ["search me"]


def test_an_unknown_trace_is_answered_as_jaeger_does(traces: str) -> None:
    answer = ask(traces, f"/api/traces/{'9' * 32}")
    assert answer.status_code == 404
    assert answer.json()["errors"] == [{"code": 404, "msg": "trace not found"}]
    assert answer.json()["data"] is None


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/api/traces", "parameter 'service' is required"),
        ("/api/traces/nonsense", "not a trace id"),
        ("/api/traces?service=a&limit=many", "'limit' is not a number"),
        ("/api/traces?service=a&lookback=soon", "'lookback' is not a duration"),
        ("/api/traces?service=a&tags=x", "malformed 'tags'"),
    ],
)
def test_a_question_that_makes_no_sense_is_told_so(traces: str, path: str, says: str) -> None:
    answer = ask(traces, path)
    assert answer.status_code == 400
    assert says in answer.json()["errors"][0]["msg"]


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"\xff\xff\xff", {"content-type": "application/x-protobuf"}, 400),
        (b"{}", {"content-type": "application/json"}, 415),
        (b"zip", {"content-type": "application/x-protobuf", "content-encoding": "gzip"}, 400),
        (b"", {"content-type": "application/x-protobuf", "content-encoding": "br"}, 415),
        (
            gzip.compress(bytes(70 * 1024 * 1024), 1),
            {"content-type": "application/x-protobuf", "content-encoding": "gzip"},
            413,
        ),
    ],
)
def test_a_body_that_holds_no_spans_is_refused(
    traces: str, body: bytes, headers: dict[str, str], status: int
) -> None:
    with httpx.Client(trust_env=False) as client:
        assert client.post(f"{traces}/v1/traces", content=body, headers=headers).status_code == status


def test_twenty_thousand_spans_at_a_stretch_are_all_kept(traces: str) -> None:
    requests = [_request(512) for _ in range(40)]
    headers = {"content-type": "application/x-protobuf", "content-encoding": "gzip"}
    before = ask(traces, "/readyz").json()["spans"]
    with httpx.Client(trust_env=False) as client:
        for body in requests:
            assert client.post(f"{traces}/v1/traces", content=body, headers=headers).status_code == 200
    assert ask(traces, "/readyz").json()["spans"] == before + 40 * 512


def _request(count: int) -> bytes:
    request = ExportTraceServiceRequest()
    group = request.resource_spans.add()
    group.resource.attributes.add(key="service.name").value.string_value = "fast"
    spans = group.scope_spans.add().spans
    for number in range(count):
        one = spans.add(name="step", trace_id=os.urandom(16), span_id=os.urandom(8))
        one.start_time_unix_nano = time.time_ns()
        one.end_time_unix_nano = one.start_time_unix_nano + 1000
        one.attributes.add(key="drp.number").value.int_value = number
    return gzip.compress(request.SerializeToString(), 1)


async def test_spans_arrive_without_anybody_asking(start: Start, traces: str) -> None:
    start("prompt", traces)
    with span("step", root=True) as one:
        pass
    await until(lambda: ask(traces, f"/api/traces/{one.trace_id}").status_code == 200)
