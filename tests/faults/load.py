"""Orders sent over HTTP without a pause longer than a breath, for as long as a test needs them."""

from __future__ import annotations

import asyncio
import threading
import time
from types import TracebackType
from typing import Final

import httpx

from libs.testing.platform import RunningPlatform
from libs.testing.waiting import until

__all__ = ["PER_REQUEST", "Load"]

PER_REQUEST: Final = 500
BREATH: Final = 0.1
"""Seconds between two requests: about 4,000 orders a second, which two cores carry beside a test run."""
PATIENCE: Final = 60.0


class Load:
    """A producer that repeats each request, under its Idempotency-Key, until it is told 202.

    Leaving the block ends it after the request that it is at: all that was sent is then acknowledged.

    ids: of the events that a 202 named. repeated: orders of requests that had to be sent again.

    Args:
        prefix: of the orders' ids.
        breath: seconds between two requests.
    """

    def __init__(self, platform: RunningPlatform, prefix: str, *, breath: float = BREATH) -> None:
        self.ids: list[str] = []
        self.repeated = 0
        self._prefix = prefix
        self._breath = breath
        self._orders_url = platform.urls["DRP_GENERATOR_URL"] + "/v1/orders"
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"load {prefix}")
        self._failed: Exception | None = None

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._enough.set()
        self._thread.join()
        if self._failed is not None and error is None:
            raise self._failed

    def goes_on(self, requests: int = 5) -> None:
        """Wait until so many more requests were acknowledged."""
        wanted = len(self.ids) + requests * PER_REQUEST
        asyncio.run(until(lambda: len(self.ids) >= wanted or self._failed, within=PATIENCE))

    def _run(self) -> None:
        try:
            with httpx.Client(trust_env=False, timeout=30) as client:
                request = 0
                while not self._enough.wait(self._breath):
                    self._send(client, request)
                    request += 1
        except (AssertionError, httpx.HTTPError) as error:
            self._failed = error

    def _send(self, client: httpx.Client, request: int) -> None:
        key = {"Idempotency-Key": f"{self._prefix}-{request}"}
        orders = [self._order(request * PER_REQUEST + place) for place in range(PER_REQUEST)]
        deadline = time.monotonic() + PATIENCE
        while (ids := self._try(client, orders, key)) is None:
            self.repeated += len(orders)
            assert time.monotonic() < deadline, "the generator takes no orders any more"
            time.sleep(BREATH)
        self.ids += ids

    def _try(
        self, client: httpx.Client, orders: list[dict[str, str]], key: dict[str, str]
    ) -> list[str] | None:
        try:
            answer = client.post(self._orders_url, json=orders, headers=key)
        except httpx.TransportError:
            return None
        if answer.status_code != httpx.codes.ACCEPTED:
            assert answer.status_code == httpx.codes.SERVICE_UNAVAILABLE, answer.text
            return None
        ids: list[str] = answer.json()["ids"]
        return ids

    def _order(self, number: int) -> dict[str, str]:
        return {
            "order_id": f"{self._prefix}-{number}",
            "customer_id": f"C-{number % 100}",
            "amount": "1.00",
            "created_at": "2026-02-01T00:00:00Z",
        }
