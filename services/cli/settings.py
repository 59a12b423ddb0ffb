"""Where the operator's platform is: what the environment says, else what runs in DRP_HOME."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from pydantic import Field

from libs.datasets import Dataset, datasets_folder_from, load_datasets
from libs.errors import DrpError, Permanent, Transient
from libs.runtime.settings import ServiceSettings
from libs.runtime.status import environment
from services.cli.masking import masked

if TYPE_CHECKING:
    from libs.adapters.bus import Bus
    from libs.adapters.objects import Objects
    from libs.adapters.postgres import Postgres
    from libs.adapters.warehouse import Warehouse

__all__ = ["Operator", "OperatorSettings", "adopted", "home_folder", "operator"]

ANSWERS_WITHIN: Final = 5.0

_ENDPOINTS_OF_S3: Final = ("DRP_S3_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")


def home_folder() -> Path:
    return Path(os.environ.get("DRP_HOME") or ".drp").absolute()


class OperatorSettings(ServiceSettings):
    archive: Literal["on", "off", "required"] = "on"

    batch_deadline: float = Field(default=300.0, gt=0)
    """As the audit is told it: seconds after its closing within which a batch is to be published and archived."""

    batch_max_age: float = Field(default=2.0, gt=0)
    """As the ingestor is told it: seconds for which a batch is open."""


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

    def only(self, name: str | None) -> str | None:
        """The name to select by; None is every dataset.

        Raises:
            Permanent: there is no such dataset.
        """
        return None if name is None else self.dataset(name).name

    @property
    def warehouses(self) -> Path | None:
        """Where every dataset's warehouse lies, if that is on this machine."""
        folder = self.settings.home / "warehouse"
        return folder if folder.is_dir() else None

    def warehouse(self, name: str | None) -> Warehouse:
        from libs.adapters.warehouse import Warehouse

        return Warehouse(self.settings.home / "warehouse", self.dataset(name).name)

    def current_file(self, name: str | None) -> Path:
        """The generation that readers see.

        Raises:
            Permanent: nothing is published.
        """
        warehouse = self.warehouse(name)
        current = warehouse.current()
        if current is None:
            raise Permanent(
                f"nothing of {warehouse.dataset} is published yet",
                why=f"there is no {warehouse.current_link.absolute()}",
                fix="drp batches ls, or another DRP_HOME",
            )
        return current

    @contextmanager
    def traced(self) -> Iterator[None]:
        """What is published within goes into traces, sent before the block ends."""
        from libs.adapters import telemetry

        told = telemetry.setup("drp", endpoint=self.settings.otlp_endpoint, log_format="text")
        try:
            yield
        finally:
            told.shutdown()

    async def postgres(self) -> Postgres:
        if self._postgres is None:
            from libs.adapters.postgres import Postgres

            url = _need(self.settings.postgres_url)
            with _named("postgres_url", url):
                self._postgres = await Postgres.open(url, service="drp", timeout=ANSWERS_WITHIN)
            self._stack.push_async_callback(self._postgres.close)
        return self._postgres

    async def bus(self) -> Bus:
        if self._bus is None:
            from libs.adapters.bus import Bus

            url = _need(self.settings.redis_url)
            with _named("redis_url", url):
                self._bus = await Bus.connect(
                    url, service="drp", consumer=f"drp-{os.getpid()}", timeout=ANSWERS_WITHIN
                )
            self._stack.push_async_callback(self._bus.stop)
        return self._bus

    async def objects(self) -> Objects:
        if self._objects is None:
            from libs.adapters.objects import Objects

            self._objects = await Objects.open_from(self.settings)
            self._stack.push_async_callback(self._objects.close)
        return self._objects


def adopted(own: Mapping[str, str], running: Mapping[str, str]) -> dict[str, str]:
    """What a command takes over from the running platform: what its own environment leaves open.

    An empty variable is open, one given as NAME_FILE is not. An object store is taken whole or not at all: the
    keys of one are nothing to another.
    """
    other_store = any(own.get(name) for name in _ENDPOINTS_OF_S3) and not any(
        own.get(name) == running.get("DRP_S3_ENDPOINT_URL") for name in _ENDPOINTS_OF_S3
    )
    return {
        name: value
        for name, value in running.items()
        if not own.get(name)
        and not own.get(f"{name}_FILE")
        and not (other_store and name.startswith("DRP_S3_"))
    }


@asynccontextmanager
async def operator() -> AsyncIterator[Operator]:
    os.environ.update(adopted(os.environ, environment(home_folder())))
    async with AsyncExitStack() as stack:
        yield Operator(OperatorSettings(), stack)


def _need(url: str | None) -> str:
    if not url:
        raise Transient(
            "no platform to talk to",
            why=f"nothing runs in {home_folder()}, and no DRP_*_URL is set",
            fix="drp up --detach, or another DRP_HOME",
        )
    return url


@contextmanager
def _named(setting: str, url: str) -> Iterator[None]:
    """A server that can't be reached says where it was looked for, and what to do."""
    try:
        yield
    except DrpError as error:
        error.what = f"{error.what} ({masked(setting, url)})"
        if error.fix is None:
            error.fix = f"drp status (is it running?), or check DRP_{setting.upper()}"
        raise
