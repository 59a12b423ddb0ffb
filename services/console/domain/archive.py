"""The archive as drawers in drawers: root, dataset, day. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

__all__ = ["Drawer", "drawers"]

_SAYS: Final = {
    "raw": "every event that landed, a batch at a time",
    "analytics": "marts as they were published",
}


@dataclass(frozen=True, slots=True)
class Drawer:
    """The newest days of a dataset below a root. older: how many days more there are. says: what lies in it."""

    root: str
    dataset: str
    says: str
    days: list[Any] = field(default_factory=list)

    @property
    def older(self) -> int:
        return self.days[0].days - len(self.days) if self.days else 0

    @property
    def objects(self) -> int:
        return sum(day.objects for day in self.days)

    @property
    def bytes(self) -> int:
        return sum(day.bytes for day in self.days)


def drawers(folders: Iterable[Any]) -> list[Drawer]:
    """Folders of libs.operations.archive_tree, in their order, by root and dataset."""
    found: dict[tuple[str, str], Drawer] = {}
    for each in folders:
        name = (each.root, each.dataset)
        drawer = found.setdefault(name, Drawer(each.root, each.dataset, _SAYS.get(each.root, "")))
        drawer.days.append(each)
    return list(found.values())
