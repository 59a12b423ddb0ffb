"""Whom the console answers: browsers that name it as it is called here, and no other site's pages.

It has no login: it listens where only its operators reach it. A page from elsewhere, open in such an operator's
browser, could reach it too, under a name of its own that it makes lead here (DNS rebinding), or from across. Neither
gets an answer. The health pages stand in front of this: they tell nothing, and are asked under any name.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection
from typing import Final

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["KnownHosts", "names_of"]

_ANY: Final = "*"
_SAFE: Final = ("GET", "HEAD")
_NAME: Final = re.compile(r"[a-z0-9._:\[\]-]{1,255}")


def names_of(setting: str) -> frozenset[str]:
    """The names in a list with commas, as DRP_CONSOLE_HOSTS has it."""
    return frozenset(_bare(name) for name in setting.split(",") if name.strip())


class KnownHosts:
    """Lets through what names an IP address, localhost or a listed host, and no request across sites but navigation."""

    def __init__(self, app: ASGIApp, names: Collection[str] = ()) -> None:
        self._app = app
        self._names = frozenset(names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refused = self._refused(scope) if scope["type"] == "http" else None
        await (refused or self._app)(scope, receive, send)

    def _refused(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._is_known(hosts[0]):
            return PlainTextResponse(_unknown(hosts), status_code=421)
        if headers.get("sec-fetch-site") == "cross-site" and not _navigates(scope["method"], headers):
            return PlainTextResponse(
                "The console answers no request of another site's page.\n", status_code=403
            )
        return None

    def _is_known(self, host: str) -> bool:
        name = _bare(host)
        return _ANY in self._names or name == "localhost" or name in self._names or _is_address(name)


def _navigates(method: str, headers: Headers) -> bool:
    return method in _SAFE and headers.get("sec-fetch-mode") == "navigate"


def _bare(host: str) -> str:
    """Without port and brackets, in small letters, and without the dot that ends a whole name."""
    text = host.strip().lower()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0].removesuffix(".")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _unknown(hosts: list[str]) -> str:
    named = f" ({hosts[0].lower()})" if hosts and _NAME.fullmatch(hosts[0].lower()) else ""
    return (
        f"The console does not know itself by this name{named}.\n\n"
        "It answers to IP addresses, to localhost, and to the names in DRP_CONSOLE_HOSTS: a list with commas, "
        "or * for any name.\nElse a page from elsewhere could read it under a name of its own (DNS rebinding).\n"
    )
