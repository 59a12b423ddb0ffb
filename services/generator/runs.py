"""A run on request: so many made-up events, with faults in known numbers, as fast as the stream takes them."""

from __future__ import annotations

import secrets
import uuid
from datetime import UTC, datetime
from typing import Annotated, Final

from fastapi import APIRouter, Request
from pydantic import AfterValidator, BaseModel, Field

from libs.adapters.bus import Bus
from libs.adapters.metrics import PRODUCED_EVENTS
from libs.adapters.telemetry import span
from services.generator.domain import Faults, Orders
from services.generator.publishing import Refusal

__all__ = ["Run", "RunMaker", "router"]

MOST: Final = 1_000_000
AT_ONCE: Final = 5_000
ROOM_WITHIN: Final = 60.0

router = APIRouter()


def _possible(shares: dict[str, float]) -> dict[str, float]:
    """Raises ValueError, which pydantic tells the caller: an unknown kind, or shares that add up to more than 1."""
    if unknown := sorted(shares.keys() - Faults().shares().keys()):
        raise ValueError(f"there is no fault {unknown[0]!r}; known are {', '.join(Faults().shares())}")
    Faults(**shares)
    return shares


class Run(BaseModel):
    """What to make."""

    count: int = Field(ge=1, le=MOST, description="How many events.")
    seed: int | None = Field(default=None, ge=0, le=2**31 - 1, description="Fixes contents and faults.")
    faults: Annotated[dict[str, float], AfterValidator(_possible)] = Field(
        default_factory=dict,
        description="Shares (0..1) by kind.",
        examples=[{"duplicate": 0.02, "malformed": 0.01}],
    )


class RunDone(BaseModel):
    """What was made: every event is in the stream."""

    run_id: str = Field(description="Stands in every id of the run; two runs never share one.")
    seed: int
    events: int
    made: dict[str, int] = Field(description="Exactly how many of each kind, `good` among them.")


class RunMaker:
    """Publishes runs. limit: entries that may wait in the stream; beyond it a run pauses."""

    def __init__(self, bus: Bus, stream: str, *, limit: int) -> None:
        self._bus = bus
        self._stream = stream
        self._limit = limit

    async def publish(self, run: Run) -> RunDone:
        """
        Raises:
            Transient: Redis is away, or the stream stayed full; some events may have been published.
        """
        seed = secrets.randbelow(2**31) if run.seed is None else run.seed
        orders = Orders(seed, uuid.uuid4().hex[:12], faults=Faults(**run.faults))
        with span("generate", attributes={"drp.events": run.count}) as this:
            for start in range(0, run.count, AT_ONCE):
                made = orders.take(min(AT_ONCE, run.count - start), now=datetime.now(UTC))
                await self._bus.wait_for_room(self._stream, limit=self._limit, timeout=ROOM_WITHIN)
                documents = [each.document for each in made]
                await self._bus.publish_events(self._stream, documents, traceparent=this.traceparent)
                PRODUCED_EVENTS.labels("generated").inc(len(documents))
        return RunDone(run_id=orders.run_id, seed=seed, events=run.count, made=dict(orders.made))


@router.post(
    "/v1/runs",
    tags=["orders"],
    summary="Publish made-up orders, with faults in known numbers",
    status_code=202,
)
async def publish_run(request: Request, run: Run) -> RunDone:
    """For demos and tests: 202 comes once the stream has acknowledged every event of the run."""
    maker: RunMaker | None = request.app.state.runs
    if maker is None:
        raise Refusal("there is no dataset named `orders` in DRP_DATASETS_DIR", status=404)
    return await maker.publish(run)
