"""What the generation that readers see has of each batch: read from its file, once for each generation."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping
from pathlib import Path

from libs.adapters.warehouse import Warehouse
from libs.datasets import Dataset
from libs.errors import Permanent
from libs.operations.balance import Taken, taken_by_batch
from services.console.doors import Doors
from services.console.looks.rows import read

__all__ = ["Staged"]


class Staged:
    """A generation's file never changes, so the newest of each dataset is counted once and kept."""

    def __init__(self, doors: Doors) -> None:
        self._doors = doors
        self._lock = asyncio.Lock()
        self._kept: dict[str, tuple[str, dict[uuid.UUID, Taken]]] = {}

    async def of(self, files: Mapping[str, str]) -> dict[str, dict[uuid.UUID, Taken]]:
        """What became of each batch, by file.

        Args:
            files: of the generations that readers see, by dataset, as Postgres names them.

        Raises:
            Permanent: the warehouse's files are not on this machine.
            Transient: they could not be read now.
        """
        async with self._lock:
            return {
                file: await self._counted(self._doors.datasets[name], file)
                for name, file in files.items()
                if name in self._doors.datasets
            }

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
