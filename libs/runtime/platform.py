"""What a service is given to work with: the opened doors."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from libs.datasets import Dataset
from libs.errors import Permanent

if TYPE_CHECKING:
    from libs.adapters.bus import Bus
    from libs.adapters.objects import Objects
    from libs.adapters.postgres import Postgres
    from libs.adapters.telemetry import Telemetry
    from libs.pipeline.outbox import Relay
    from libs.runtime.settings import ServiceSettings

__all__ = ["Platform"]


@dataclass(kw_only=True)
class Platform:
    """Open from before `wire` until the service has drained. stop is set when it begins to drain."""

    name: str
    consumer: str
    settings: ServiceSettings
    datasets: Mapping[str, Dataset]
    telemetry: Telemetry
    stop: asyncio.Event
    _bus: Bus | None = None
    _postgres: Postgres | None = None
    _relay: Relay | None = None
    _objects: Objects | None = None
    _opening: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def bus(self) -> Bus:
        """Not of a service that is made with `stores=False`."""
        if self._bus is None:
            raise Permanent(f"{self.name} works without Redis", fix="Service(…, stores=True)")
        return self._bus

    @property
    def postgres(self) -> Postgres:
        """Only of a service that is made with `postgres=True` (the default)."""
        if self._postgres is None:
            raise Permanent(f"{self.name} works without Postgres", fix="Service(…, postgres=True)")
        return self._postgres

    @property
    def relay(self) -> Relay:
        """Publishes the outbox. nudge() it after a commit that announced something."""
        if self._relay is None:
            raise Permanent(f"{self.name} works without an outbox", fix="Service(…, postgres=True)")
        return self._relay

    async def objects(self) -> Objects:
        """The object store of the settings, opened when first asked for.

        Raises:
            Permanent: no object store is configured.
        """
        async with self._opening:
            if self._objects is None:
                from libs.adapters.objects import Objects

                self._objects = await Objects.open_from(self.settings)
            return self._objects

    async def close_objects(self) -> None:
        if self._objects is not None:
            await self._objects.close()
