"""The one door to what answers over HTTP: a GET within a time and a size, its failures in the house's two kinds.

No message names what an address may hide: its credentials and its query stay out, as do headers and bodies.
Importing this imports no HTTP client; the first request does.
"""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from libs.adapters.telemetry import LOOPBACK
from libs.errors import Permanent, Transient

if TYPE_CHECKING:
    import httpx

__all__ = ["NoAnswer", "address_of", "get", "retry_after"]

_LONGEST_WAIT: Final = 3600.0
_LATER: Final = frozenset({408, 425, 429})
_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HEADER_VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]*")


class NoAnswer(Transient):
    """None that can be used now. seconds is what the server asked to wait, if it did."""

    def __init__(
        self, what: str, *, why: str | None = None, fix: str | None = None, seconds: float | None = None
    ) -> None:
        super().__init__(what, why=why, fix=fix)
        self.seconds = seconds


async def get(
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    timeout: float,  # noqa: ASYNC109 - of the whole answer, however slowly it drips
    max_bytes: int,
) -> bytes:
    """The body of one successful answer, unpacked.

    No redirect is followed: it could carry headers that are secrets to another server.

    Args:
        timeout: seconds for the whole answer.
        max_bytes: of the body, unpacked.

    Raises:
        NoAnswer: no connection, no whole answer in time, 408, 425, 429 or 5xx.
        Permanent: any other answer than 2xx, a larger one, a certificate that is not trusted, or an address or a
            header that is none.
    """
    import httpx

    where = address_of(url)
    _check_headers(headers or {})
    try:
        async with (
            asyncio.timeout(timeout),
            _client(url, timeout) as client,
            client.stream("GET", url, headers=dict(headers or {})) as answer,
        ):
            _judge(answer, where)
            return await _body(answer, where, max_bytes)
    except TimeoutError:
        raise NoAnswer(f"no whole answer from {where} within {timeout:g} s") from None
    except httpx.TimeoutException:
        raise NoAnswer(f"no answer from {where} within {timeout:g} s") from None
    except (httpx.InvalidURL, httpx.LocalProtocolError, httpx.DecodingError) as error:
        raise Permanent(f"{where} can't be asked, or its answer not be unpacked", why=_kind(error)) from None
    except httpx.HTTPError as error:
        if (distrusted := _distrusted(error)) is not None:
            raise Permanent(
                f"the certificate of {where} is not trusted",
                why=distrusted.verify_message,
                fix="SSL_CERT_FILE, the file with the certificate of who signed it, if that is right",
            ) from None
        raise NoAnswer(f"no answer from {where}", why=str(error) or _kind(error)) from None


def address_of(url: str) -> str:
    """The address without what may be secret in it: scheme, host in lower case, port if it is given, path.

    Raises:
        Permanent: it is no http(s) address.
    """
    try:
        parts = urlsplit(url)
        port = "" if parts.port is None else f":{parts.port}"
    except ValueError:
        parts, port = urlsplit(""), ""
    host = parts.hostname or ""
    if parts.scheme not in {"http", "https"} or not host:
        raise Permanent("the address is not an http(s) one", fix="https://HOST/PATH")
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}{port}{parts.path}"


def retry_after(header: str | None, *, now: datetime) -> float | None:
    """Seconds that a server asks to wait (RFC 9110: number or date), at most an hour; None if it doesn't."""
    if header is None:
        return None
    text = header.strip()
    if text.isdecimal():
        return min(float(text), _LONGEST_WAIT)
    try:
        until = parsedate_to_datetime(text)
    except ValueError:
        return None
    aware = until if until.tzinfo is not None else until.replace(tzinfo=UTC)
    return min(max(0.0, (aware - now).total_seconds()), _LONGEST_WAIT)


def _client(url: str, timeout: float) -> httpx.AsyncClient:
    import httpx

    logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs every address it asks, whole
    # No proxy leads to this machine; whom to trust, SSL_CERT_FILE says for it, too.
    return httpx.AsyncClient(
        timeout=timeout,
        trust_env=urlsplit(url).hostname not in LOOPBACK,
        verify=httpx.create_ssl_context(),
    )


def _distrusted(error: BaseException) -> ssl.SSLCertVerificationError | None:
    """What refused the server's certificate, if that is what the error comes from."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLCertVerificationError):
        cause = cause.__cause__ or cause.__context__
    return cause


def _check_headers(headers: Mapping[str, str]) -> None:
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name):
            raise Permanent(f"{name!r} is no name of a header", fix="--header NAME=VALUE")
        if not _HEADER_VALUE.fullmatch(value):
            raise Permanent(f"the value of header {name} has characters that a header can't have")


def _judge(answer: httpx.Response, where: str) -> None:
    status = answer.status_code
    said = f"{where} answered {status} {answer.reason_phrase}".rstrip()
    if answer.is_success:
        return
    if status in _LATER or answer.is_server_error:
        asked = retry_after(answer.headers.get("retry-after"), now=datetime.now(UTC))
        raise NoAnswer(said, seconds=asked)
    if answer.has_redirect_location:
        raise Permanent(said, why="it leads elsewhere", fix=f"ask {_led_to(answer)} itself")
    raise Permanent(said)


def _led_to(answer: httpx.Response) -> str:
    try:
        return address_of(str(answer.request.url.join(answer.headers["location"])))
    except Permanent:
        return "the right address"


async def _body(answer: httpx.Response, where: str, max_bytes: int) -> bytes:
    body = bytearray()
    async for piece in answer.aiter_bytes():
        body += piece
        if len(body) > max_bytes:
            raise Permanent(
                f"the answer of {where} is larger than {max_bytes / 1024**2:g} MiB",
                fix="a page of it (?limit=…), or --max-size MIB",
            )
    return bytes(body)


def _kind(error: Exception) -> str:
    return type(error).__name__
