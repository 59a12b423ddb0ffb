"""The whole way of a batch up to the archive."""

from __future__ import annotations

from tests.integration.archiver.works import works

__all__ = ["works"]
