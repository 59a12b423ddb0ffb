"""How many replicas of each service an embedded platform runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from libs.contracts.streams import DATASET_GROUPS, GROUPS
from libs.errors import Permanent

__all__ = ["CONSUMERS", "part_name", "read_scale", "replicas"]

CONSUMERS: Final = frozenset({*DATASET_GROUPS, *(group for groups in GROUPS.values() for group in groups)})
"""What can have replicas: services that share their work through a consumer group."""

MOST: Final = 16


def read_scale(told: Iterable[str]) -> dict[str, int]:
    """The number of replicas by service, from texts like `ingestor=3` or `ingestor=3,validator=2`.

    A service that isn't named has one. Of two that name the same one the later counts.

    Raises:
        Permanent: it is not written so, the service can't have replicas, or the number is none from 1 to 16.
    """
    found = {}
    for each in (part.strip() for text in told for part in text.split(",")):
        if not each:
            continue
        name, _, number = (word.strip() for word in each.partition("="))
        if name not in CONSUMERS:
            raise Permanent(
                f"{name!r} has no replicas",
                why=f"these have: {', '.join(sorted(CONSUMERS))}",
                fix="NAME=NUMBER",
            )
        if not (number.isascii() and number.isdigit() and 1 <= int(number) <= MOST):
            raise Permanent(f"{each!r} is no number of replicas", fix=f"{name}=1 to {name}={MOST}")
        found[name] = int(number)
    return found


def replicas(services: Mapping[str, str], scale: Mapping[str, int]) -> list[tuple[str, int]]:
    """Each replica's service and number, from 1, in the order to start them."""
    return [(name, number) for name in services for number in range(1, scale.get(name, 1) + 1)]


def part_name(service: str, replica: int) -> str:
    """A replica's name among the processes. The first has the service's, however many there are."""
    return service if replica == 1 else f"{service}-{replica}"
