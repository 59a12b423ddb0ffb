"""drp open: the console in the browser, at the page of what is meant."""

from __future__ import annotations

import os
import re
import sys
import uuid
from typing import Annotated, Any, Final
from urllib.parse import quote

import typer

from libs.errors import Permanent, Transient
from services.cli import completing
from services.cli.output import Json, print_text, write_json

__all__ = ["batch_page", "last_page", "register"]

ANSWERS_WITHIN: Final = 5.0
ASKED_WITHIN: Final = 0.5
"""Seconds, while somebody types."""

_BATCH: Final = re.compile(r"[0-9a-f][0-9a-f-]{3,35}", re.IGNORECASE)
"""A batch id or the start of one, as against the number of an order: the console is asked whether it is one."""
_NUMBER: Final = re.compile(r"[1-9][0-9]{0,17}")
_START: Final = 8
"""Digits from which on a number may be the start of a batch id rather than a number of the quarantine."""


@completing.silent
def _pages(_incomplete: str) -> completing.Offers:
    return [(name, "a page") for name in _Console(_address(), within=ASKED_WITHIN).pages]


def _offered(incomplete: str) -> completing.Offers:
    """The console's pages, then what has a page of its own."""
    return [*_pages(incomplete), *completing.batches(incomplete), *completing.quarantined(incomplete)]


def register(app: typer.Typer) -> None:
    app.command("open")(open_console)


def open_console(
    what: Annotated[
        str | None,
        typer.Argument(
            metavar="WHAT",
            autocompletion=_offered,
            help="A page (batches, quality, ...), a batch, `last`, a quarantine number, or anything to search for.",
        ),
    ] = None,
    only_print: Annotated[bool, typer.Option("--print", help="Only print the address.")] = False,
    as_json: Json = False,
) -> None:
    """Open the console in the browser.

    The address is printed, too: where there is no browser, that is all. A batch is named by its id or the start of
    it. What could be meant otherwise is said so: batch:ID, quarantine:N, event:TEXT.

    Exit 5 if the console doesn't run.
    """
    console = _Console(_address())
    url = console.url(_path(console, what))
    if not as_json:
        print_text(url)
        sys.stdout.flush()  # before what a browser may say
    opened = not only_print and _opened(url)
    if as_json:
        write_json({"url": url, "opened": opened})


def _address() -> str:
    """Where the console is.

    Raises:
        Transient: nothing says where.
    """
    from libs.runtime.status import environment
    from services.cli.settings import home_folder

    home = home_folder()
    running = environment(home)
    url = os.environ.get("DRP_CONSOLE_URL") or running.get("DRP_CONSOLE_URL")
    if url:
        return url
    why = (
        f"what runs in {home} has none"
        if running
        else f"nothing runs in {home}, and no DRP_CONSOLE_URL is set"
    )
    raise Transient("no console to open", why=why, fix="drp up --detach, or another DRP_HOME")


class _Console:
    """The console that answers at an address.

    Raises:
        Transient: none does.
    """

    def __init__(self, address: str, *, within: float = ANSWERS_WITHIN) -> None:
        self._within = within
        self._address = address.rstrip("/")
        # It is asked in any case: a browser would say less of one that is away than we can.
        paths = self._asked("/api/openapi.json").get("paths", {})
        self.pages = [
            path.removeprefix("/api/")
            for path, methods in paths.items()
            if "pages" in methods.get("get", {}).get("tags", ()) and "{" not in path
        ]

    def url(self, path: str) -> str:
        return f"{self._address}{path}"

    def batches(self, start: str) -> list[str] | None:
        """The newest batches whose id starts so; None if the console couldn't ask."""
        found = self._asked(f"/api/batches?id={quote(start)}").get("batches")
        return None if found is None else [str(batch["id"]) for batch in found]

    def _asked(self, path: str) -> dict[str, Any]:
        import http.client
        import json
        from urllib.request import ProxyHandler, build_opener

        try:
            # No proxy stands between a machine and itself.
            with build_opener(ProxyHandler({})).open(self.url(path), timeout=self._within) as answer:
                document = json.load(answer)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self._silent(str(error)) from error
        if not isinstance(document, dict):
            raise self._silent("something else answers there")
        return document

    def _silent(self, why: str) -> Transient:
        return Transient(
            f"the console does not answer at {self._address}", why=why, fix="drp status (is it running?)"
        )


def _path(console: _Console, what: str | None) -> str:
    """The page of what is meant.

    Raises:
        Permanent: it is the last batch, and there is none.
    """
    kind, _, name = (what or "").partition(":")
    if what is None or what == "flow":
        return "/"
    if kind == "event" and name:
        return _search(name)
    if kind == "batch" and name:
        return _batch(console, name) or f"/batches/{quote(name, safe='')}"
    if kind == "quarantine" and name:
        return f"/quarantine/{quote(name, safe='')}"
    if what in console.pages:
        return f"/{what}"
    if _NUMBER.fullmatch(what) and len(what) < _START:
        return f"/quarantine/{what}"
    return _batch(console, what) or (f"/quarantine/{what}" if _NUMBER.fullmatch(what) else _search(what))


def _batch(console: _Console, name: str) -> str | None:
    """The page of the batch that the name names; None if it names none."""
    if name == "last":
        return last_page(console.batches(""))
    return batch_page(name.lower(), console.batches(name.lower())) if _BATCH.fullmatch(name) else None


def last_page(newest: list[str] | None) -> str:
    """The page of the newest batch. None: what there is could not be asked, which that page then says.

    Raises:
        Permanent: there is none.
    """
    if newest == []:
        raise Permanent("there is no batch yet", fix="drp publish --file orders.csv")
    return f"/batches/{newest[0]}" if newest else "/batches/last"


def batch_page(start: str, found: list[str] | None) -> str | None:
    """The page of the batch whose id starts so, or the list of several; None if there is none, or none is known."""
    if found is None:
        return f"/batches/{start}" if len(start) == len(str(uuid.UUID(int=0))) else None
    if len(found) > 1:
        return f"/batches?id={start}"
    return f"/batches/{found[0]}" if found else None


def _search(text: str) -> str:
    return f"/events?q={quote(text, safe='')}"


def _opened(url: str) -> bool:
    """Whether a browser took it."""
    import webbrowser

    try:
        return webbrowser.open(url)
    except (webbrowser.Error, OSError):
        return False
