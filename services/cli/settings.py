"""Where the operator's platform is: what the environment says, else what runs in DRP_HOME."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from libs.datasets import Dataset, datasets_folder_from, load_datasets
from libs.errors import Permanent
from libs.runtime.settings import ServiceSettings
from libs.runtime.supervisor import environment

if TYPE_CHECKING:
    from libs.adapters.objects import Objects

    from libs.adapters.bus import Bus
    from libs.adapters.postgres import Postgres

__all__ = ["Operator", "home_folder", "operator"]


def home_folder() -> Path:
    return Path(os.environ.get("DRP_HOME", ".drp")).absolute()


class OperatorSettings(ServiceSettings):
    archive: Literal["on", "off", "required"] = "on"


class Operator:
    """Opens what a command needs, when it needs it; closed with the command."""

    def __init__(self, settings: OperatorSettings, stack: AsyncExitStack) -> None:
        self.settings = settings
        self._stack = stack
        self._postgres: Postgres | None = None
        self._bus: Bus | None = None
        self._objects: Objects | None = None

    @cached_property
    def datasets(self) -> dict[str, Dataset]:
        return load_datasets(datasets_folder_from(self.settings.datasets_dir))

    def dataset(self, name: str | None) -> Dataset:
        """The named dataset, or the only one, or `orders`.

        Raises:
            Permanent: there is no such dataset.
        """
        if name is None:
            name = next(iter(self.datasets)) if len(self.datasets) == 1 else "orders"
        if name not in self.datasets:
            raise Permanent(
                f"there is no dataset {name!r}",
                why=f"known are {', '.join(self.datasets)}",
                fix="--dataset NAME",
            )
        return self.datasets[name]

    async def postgres(self) -> Postgres:
        if self._postgres is None:
            from libs.adapters.postgres import Postgres

            self._postgres = await Postgres.open(_need(self.settings.postgres_url), service="drp", timeout=5)
            self._stack.push_async_callback(self._postgres.close)
        return self._postgres

    async def bus(self) -> Bus:
        if self._bus is None:
            from libs.adapters.bus import Bus

            self._bus = await Bus.connect(
                _need(self.settings.redis_url), service="drp", consumer=f"drp-{os.getpid()}"
            )
            self._stack.push_async_callback(self._bus.stop)
        return self._bus

    async def objects(self) -> Objects:
        if self._objects is None:
            from libs.adapters.objects import Objects

            self._objects = await Objects.open_from(self.settings)
            self._stack.push_async_callback(self._objects.close)
        return self._objects


def _need(url: str | None) -> str:
    if not url:
        raise Permanent(
            "no platform to talk to",
            why=f"nothing runs in {home_folder()} and no DRP_*_URL is set",
            fix="drp up --detach",
        )
    return url


def adopt_running_platform() -> None:
    """Take what the environment leaves open from the platform that runs in DRP_HOME, if one does."""
    for name, value in environment(home_folder()).items():
        os.environ.setdefault(name, value)


@asynccontextmanager
async def operator() -> AsyncIterator[Operator]:
    adopt_running_platform()
    async with AsyncExitStack() as stack:
        yield Operator(OperatorSettings(), stack)
