"""How many entries one read takes: as many as lately fitted the bytes a batch may have."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["Window"]

FIRST_READ = 16


class Window:
    """Redis bounds a read by entries only, and one may hold eight mebibytes: so learn from the last read.

    Grows twofold at most, shrinks at once. Never 0: FastStream would ask for everything.
    """

    def __init__(self, *, max_records: int, max_bytes: int) -> None:
        self._most = max_records
        self._max_bytes = max_bytes
        self.size = min(FIRST_READ, max_records)

    def learn(self, sizes: Sequence[int]) -> None:
        """sizes: bytes of each entry of the last read."""
        if not sizes:
            return
        fitting = self._max_bytes * len(sizes) // max(1, sum(sizes))
        grown = self.size * 2 if len(sizes) >= self.size else self.size
        self.size = max(1, min(self._most, grown, fitting))
