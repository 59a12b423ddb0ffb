"""What the console is told by its environment."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from libs.runtime.settings import ServiceSettings

__all__ = ["ConsoleSettings"]


class ConsoleSettings(ServiceSettings):
    batch_deadline: float = Field(default=300.0, gt=0)
    """As the audit is told it: seconds after its closing within which a batch must be published and archived."""

    batch_max_age: float = Field(default=2.0, gt=0)
    """As the ingestor is told it: seconds for which a batch is open."""

    archive: Literal["on", "off", "required"] = "on"
    """off: nothing is late for the archive."""

    trace_ui_url: str | None = None
    """Where people's browsers find a Jaeger, to which pages then link; DRP_TRACES_URL is where the console asks."""

    console_hosts: str = ""
    """Names under which browsers find the console, beside localhost and IP addresses, with commas; * is any name."""
