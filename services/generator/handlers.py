"""The generator's HTTP pages: thin, every answer declared in /openapi.json."""

from __future__ import annotations

import asyncio
import logging
import secrets
from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, FastAPI, Header, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field, JsonValue

from libs.adapters.bus import RoomExceeded
from libs.adapters.metrics import PRODUCE_REFUSED
from libs.errors import Permanent, Transient
from services.generator import runs
from services.generator.domain import synthetic_orders
from services.generator.publishing import MOST_ORDERS, PROBLEMS_TOLD, OrderDoor, Refusal

__all__ = ["BODY_LIMIT", "create_app"]

log = logging.getLogger("drp.generator")

BODY_LIMIT: Final = 8 * 1024 * 1024
RETRY_AFTER: Final = "2"
HEALTH_WITHIN: Final = 2.0
REFUSED_AS: Final = {400: "not_json", 404: "no_dataset", 413: "too_large", 422: "invalid"}

EXAMPLE: Final[dict[str, JsonValue]] = {
    "order_id": "A-1001",
    "customer_id": "C-0042",
    "amount": "19.90",
    "created_at": "2026-03-01T10:00:00Z",
}


class Order(BaseModel):
    """An order. Further fields are kept with it."""

    model_config = {"extra": "allow", "json_schema_extra": {"examples": [EXAMPLE]}}

    order_id: str = Field(description="The business key; a later event with the same one is its correction.")
    customer_id: str
    amount: str | float = Field(
        description="A decimal with at most two places, as text or as a number; read exactly."
    )
    created_at: str = Field(description="RFC 3339; without an offset it is UTC, a bare date is its midnight.")


class Accepted(BaseModel):
    """The events are in the stream: from here on the platform accounts for each."""

    ids: list[str] = Field(description="Event ids, one an order, in the order of the request.")
    count: int


class RefusedOrder(BaseModel):
    """Why one order was refused."""

    index: int = Field(description="Its place in the request, from 0.")
    field: str | None = Field(description="The field at fault, if it is one.")
    reason: str = Field(description="A reason code, as the quarantine uses them.", examples=["field_missing"])
    detail: str


class Failure(BaseModel):
    """What was wrong; nothing of the request was published, unless it says so."""

    error: str
    problems: list[RefusedOrder] = []


class Records(BaseModel):
    """Synthetic orders."""

    records: list[Order]
    count: int


class HealthReport(BaseModel):
    """Whether orders can be taken."""

    status: str = Field(examples=["ok"])
    detail: str | None = None


def _says(description: str) -> dict[str, Any]:
    return {"model": Failure, "description": description}


POST_RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    400: _says("The body is not JSON."),
    404: _says("No dataset named `orders` is loaded."),
    413: _says(f"The body is larger than {BODY_LIMIT} bytes."),
    422: _says("The contract refuses some orders, there are too many, or the Idempotency-Key is reused."),
    503: _says(
        "Redis is away, or too much waits: come back after Retry-After, with the same Idempotency-Key."
    ),
}
ORDER_SCHEMA: Final = {"$ref": "#/components/schemas/Order"}
POST_BODY: Final = {
    "requestBody": {
        "required": True,
        "description": f"One order, or an array of up to {MOST_ORDERS}; at most {BODY_LIMIT} bytes.",
        "content": {
            "application/json": {
                "schema": {
                    "oneOf": [
                        ORDER_SCHEMA,
                        {"type": "array", "items": ORDER_SCHEMA, "minItems": 1, "maxItems": MOST_ORDERS},
                    ]
                },
                "examples": {
                    "one": {"summary": "One order", "value": EXAMPLE},
                    "many": {"summary": "Many orders", "value": [EXAMPLE, {**EXAMPLE, "order_id": "A-1002"}]},
                },
            }
        },
    }
}
Limit = Annotated[int, Query(ge=1, le=1000, description="How many.")]
Seed = Annotated[int | None, Query(ge=0, le=2**31 - 1, description="The same seed gives the same orders.")]
Parent = Annotated[str | None, Header(max_length=255, description="W3C trace context of your own trace.")]
Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        max_length=255,
        description="Your name for this request. Sent again with it, the same orders count once.",
    ),
]


router = APIRouter()


def create_app() -> FastAPI:
    """The application. `state.bus` and `state.door` (None: no dataset `orders`) are set by the wiring."""
    app = FastAPI(
        title="Orders in",
        version="1",
        description="Publish orders to the Data Reliability Platform, or look at synthetic ones.",
        docs_url=None,  # the pages load their scripts from elsewhere
        redoc_url=None,
    )
    app.state.bus = None
    app.state.door = None
    app.state.runs = None
    app.include_router(router)
    app.include_router(runs.router)
    for kind, handler in (
        (Refusal, _refused),
        (RequestValidationError, _invalid),
        (Transient, _unavailable),
        (Permanent, _broken),
    ):
        app.add_exception_handler(kind, handler)
    return app


@router.get("/", include_in_schema=False)
async def index() -> dict[str, object]:
    """Where to go from here."""
    pages = [
        "POST /v1/orders",
        "GET /v1/orders?limit=100",
        "POST /v1/runs",
        "GET /health",
        "GET /readyz",
        "GET /metrics",
    ]
    return {"service": "generator", "openapi": "/openapi.json", "pages": pages}


@router.get(
    "/health",
    tags=["service"],
    summary="Can orders be taken?",
    response_model=HealthReport,
    responses={503: {"model": HealthReport, "description": "Not now."}},
)
async def health(request: Request) -> JSONResponse:
    try:
        async with asyncio.timeout(HEALTH_WITHIN):
            await request.app.state.bus.ping()
    except TimeoutError:
        detail = f"Redis gave no answer within {HEALTH_WITHIN:g} s"
        return JSONResponse({"status": "unavailable", "detail": detail}, status_code=503)
    except Transient as error:
        return JSONResponse({"status": "unavailable", "detail": str(error)}, status_code=503)
    return JSONResponse({"status": "ok", "detail": None})


@router.get(
    "/v1/orders",
    tags=["orders"],
    summary="Look at synthetic orders",
    responses={422: _says("limit or seed is out of range.")},
)
async def look(limit: Limit = 100, seed: Seed = None) -> Records:
    """Nothing is published."""
    chosen = secrets.randbelow(2**31) if seed is None else seed
    records = [Order(**msgspec.structs.asdict(order)) for order in synthetic_orders(chosen, limit)]
    return Records(records=records, count=len(records))


@router.post(
    "/v1/orders",
    tags=["orders"],
    summary="Publish one order, or many",
    status_code=202,
    responses=POST_RESPONSES,
    openapi_extra=POST_BODY,
)
async def publish(request: Request, key: Key = None, traceparent: Parent = None) -> Accepted:
    """All orders of a request are published, or none. 202 means that the stream has acknowledged each event.

    The events' source is `urn:drp:http`. Their ids are new, or follow from the Idempotency-Key.
    """
    door: OrderDoor | None = request.app.state.door
    if door is None:
        raise Refusal("there is no dataset named `orders` in DRP_DATASETS_DIR", status=404)
    ids = await door.take(await _body(request), key=key, parent=traceparent)
    return Accepted(ids=ids, count=len(ids))


async def _body(request: Request) -> bytes:
    declared = request.headers.get("content-length", "0")
    body = bytearray()
    if not declared.isdigit() or int(declared) <= BODY_LIMIT:
        async for part in request.stream():
            body += part
            if len(body) > BODY_LIMIT:
                break
        else:
            return bytes(body)
    raise Refusal(f"a request holds at most {BODY_LIMIT} bytes", status=413)


async def _refused(_: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, Refusal):
        raise error
    PRODUCE_REFUSED.labels(REFUSED_AS[error.status]).inc()
    problems = [msgspec.structs.asdict(problem) for problem in error.problems[:PROBLEMS_TOLD]]
    return _failure(error.status, error.error, problems)


async def _invalid(_: Request, error: Exception) -> JSONResponse:
    """Says what is wrong, and never repeats the value: it may be none that JSON can hold."""
    if not isinstance(error, RequestValidationError):
        raise error
    told = [f"{'.'.join(str(part) for part in one['loc'])}: {one['msg']}" for one in error.errors()]
    return _failure(422, "; ".join(told))


async def _unavailable(_: Request, error: Exception) -> JSONResponse:
    PRODUCE_REFUSED.labels("no_room" if isinstance(error, RoomExceeded) else "unavailable").inc()
    return _failure(503, str(error), headers={"Retry-After": RETRY_AFTER})


async def _broken(_: Request, error: Exception) -> JSONResponse:
    log.error("%s", error)
    return _failure(500, str(error))


def _failure(
    status: int,
    error: str,
    problems: list[dict[str, Any]] | None = None,
    headers: dict[str, str] | None = None,
) -> JSONResponse:
    return JSONResponse({"error": error, "problems": problems or []}, status_code=status, headers=headers)
