"""What the archiver is told by its environment."""

from __future__ import annotations

from typing import Literal

from libs.runtime.settings import ServiceSettings

__all__ = ["ArchiverSettings"]


class ArchiverSettings(ServiceSettings):
    archive: Literal["on", "off", "required"] = "on"
    """off: no object store is asked for anything. required is the transformer's to keep; here it is on."""
