"""One POST to the alert webhook, and what its answer means."""

from __future__ import annotations

import ipaddress
import logging
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlsplit

import httpx

from libs.adapters.http import retry_after
from libs.errors import Permanent, Transient
from services.audit.domain import Alert, webhook_body

__all__ = ["NotTaken", "Webhook", "open_webhook"]

_TIMEOUT: Final = 5.0
_TOO_MANY: Final = 429


class NotTaken(Transient):
    """The receiver may take it later. seconds is what it asked to wait, if it did."""

    def __init__(self, what: str, *, seconds: float | None = None) -> None:
        super().__init__(what)
        self.seconds = seconds


class Webhook:
    """Posts alerts to one address. The address is a secret: it stands in no message and in no log."""

    def __init__(self, url: str, client: httpx.AsyncClient) -> None:
        self._url = url
        self._client = client

    async def send(self, alert: Alert) -> None:
        """Tell the receiver; a repeat carries the same Idempotency-Key.

        Raises:
            NotTaken: no connection, no answer in time, 5xx or 429.
            Permanent: any other answer than 2xx, or an address that is none.
        """
        try:
            answer = await self._client.post(
                self._url, json=webhook_body(alert), headers={"Idempotency-Key": alert.dedupe_key}
            )
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise Permanent(
                "DRP_ALERT_WEBHOOK_URL is not an http(s) address",
                why=type(error).__name__,
                fix="drp alert test",
            ) from None
        except httpx.HTTPError as error:
            raise NotTaken(f"no answer from the webhook ({type(error).__name__})") from None
        _judge(answer)

    async def close(self) -> None:
        await self._client.aclose()


def _judge(answer: httpx.Response) -> None:
    if answer.is_success:
        return
    said = f"the webhook answered {answer.status_code}"
    if answer.is_server_error or answer.status_code == _TOO_MANY:
        raise NotTaken(said, seconds=retry_after(answer.headers.get("retry-after"), now=datetime.now(UTC)))
    raise Permanent(said, fix="check DRP_ALERT_WEBHOOK_URL, then drp alert test")


def open_webhook(url: str) -> Webhook:
    """A client for the address, with no proxy for a receiver on this machine. Connects when it sends."""
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs every address it calls
    return Webhook(url, httpx.AsyncClient(timeout=_TIMEOUT, trust_env=not _on_this_machine(url)))


def _on_this_machine(url: str) -> bool:
    try:
        host = urlsplit(url).hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
