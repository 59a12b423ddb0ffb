"""What the generation that readers see has of each batch: read from its file, once for each generation."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping
from pathlib import Path

import msgspec

from libs.adapters.warehouse import Warehouse
from libs.datasets import Dataset
from libs.errors import Permanent
from libs.operations.balance import Taken, taken_by_batch
from services.console.doors import Doors, Missing
from services.console.looks.rows import read

__all__ = ["Staged", "StagedRows"]


class StagedRows(msgspec.Struct, frozen=True, kw_only=True):
    """What became of each batch, by file; missing, by dataset, says why a file could not be read and is left out."""

    taken: dict[str, dict[uuid.UUID, Taken]]
    missing: dict[str, Missing]

    @property
    def first_missing(self) -> list[Missing]:
        """What a page says of it: all of them have one cause, as a rule."""
        return list(self.missing.values())[:1]


class Staged:
    """A generation's file never changes, so the newest of each dataset is counted once and kept."""

    def __init__(self, doors: Doors) -> None:
        self._doors = doors
        self._lock = asyncio.Lock()
        self._kept: dict[str, tuple[str, dict[uuid.UUID, Taken]]] = {}

    async def of(self, files: Mapping[str, str]) -> StagedRows:
        """
        Args:
            files: of the generations that readers see, by dataset, as Postgres names them.
        """
        found = StagedRows(taken={}, missing={})
        async with self._lock:
            for name, file in files.items():
                if (dataset := self._doors.datasets.get(name)) is not None:
                    await self._add(found, dataset, file)
        return found

    async def _add(self, found: StagedRows, dataset: Dataset, file: str) -> None:
        seen = await self._doors.look("warehouse", lambda: self._counted(dataset, file))
        if seen.value is not None:
            found.taken[file] = seen.value
        elif seen.missing is not None:
            found.missing[dataset.name] = seen.missing

    def path_of(self, dataset: str, file: str) -> Path:
        """
        Raises:
            Permanent: there is no such file on this machine.
        """
        root = self._doors.warehouses
        path = None if root is None else Warehouse(root, dataset).path_of(file)
        if path is None or not path.is_file():
            raise Permanent(
                "the warehouse's files are not here",
                why=f"there is no {path or self._doors.settings.home / 'warehouse'}",
                fix="DRP_HOME, with the transformer's folder",
            )
        return path

    async def _counted(self, dataset: Dataset, file: str) -> dict[uuid.UUID, Taken]:
        kept = self._kept.get(dataset.name)
        if kept is None or kept[0] != file:
            path = self.path_of(dataset.name, file)
            found = await read(path, lambda generation: taken_by_batch(generation, dataset))
            kept = self._kept[dataset.name] = (file, found)
        return kept[1]
