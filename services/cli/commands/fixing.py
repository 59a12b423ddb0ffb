"""drp quarantine fix: a corrected event beside the original, checked against the contract."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from libs.operations import reading
from services.cli.asking import DryRun, Yes, actor, check_answerable, confirmed, edited
from services.cli.commands.redriving import Because, Id, redriven, tell_redrive
from services.cli.output import PROBLEMS, Json, builtins, heading, say, show_rows, write_json
from services.cli.settings import Operator, operator

if TYPE_CHECKING:
    from libs.operations.corrections import Correction
    from libs.operations.quarantine import Fix
    from libs.operations.redriving import Redrive

__all__ = ["register"]

_CHANGES: Final = ("field", "before", "after")
_WRONG: Final = ("field", "wanted", "value", "problem")


def register(app: typer.Typer) -> None:
    app.command("fix")(fix_event)


def fix_event(
    event: Id,
    texts: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="FIELD=VALUE", help="A field; ce-NAME is an attribute of the envelope."
        ),
    ] = None,
    documents: Annotated[
        list[str] | None,
        typer.Option("--set-json", metavar="FIELD=JSON", help="The same, with a JSON value."),
    ] = None,
    remove: Annotated[list[str] | None, typer.Option(metavar="FIELD", help="Take a field away.")] = None,
    file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The whole event, corrected; - is stdin.")
    ] = None,
    edit: Annotated[bool, typer.Option("--edit", help="The whole event, in $EDITOR.")] = False,
    wrap: Annotated[bool, typer.Option("--wrap", help="It is bare data: put an envelope around it.")] = False,
    new_id: Annotated[
        bool,
        typer.Option(
            "--new-id", help="As a correction: an identity of its own, and the present as its time."
        ),
    ] = False,
    afresh: Annotated[
        bool, typer.Option("--afresh", help="From the original, not from the fix so far.")
    ] = False,
    redrive: Annotated[
        bool, typer.Option("--redrive", help="Publish it too, if nothing is wrong any more.")
    ] = False,
    because: Because = "corrected",
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Correct a quarantined event. Its original stays.

    The correction is checked against the contract and kept; nothing is published without --redrive. The identity
    stays the event's own. Exit 3 if something is still wrong.
    """
    from libs.operations.corrections import Correction

    if file is not None and edit:
        raise typer.BadParameter("--file and --edit both give the whole event: one of them")
    if not any((texts, documents, remove, file, edit, wrap, new_id)):
        raise typer.BadParameter(
            "say what to correct: --set, --set-json, --remove, --file, --edit, --wrap or --new-id"
        )
    if redrive and not dry_run:
        check_answerable(yes=yes)
    change = Correction(
        texts=_pairs(texts, "--set"),
        documents=_pairs(documents, "--set-json"),
        remove=remove or [],
        document=None if file is None else _content(file),
        wrap=wrap,
        new_id=new_id,
    )
    wanted = _Wanted(event, change, edit, afresh, redrive, because, dry_run, yes, as_json)
    raise typer.Exit(asyncio.run(_fix(wanted)))


@dataclass(frozen=True)
class _Wanted:
    event: int
    change: Correction
    edit: bool
    afresh: bool
    redrive: bool
    because: str
    dry_run: bool
    yes: bool
    as_json: bool


async def _fix(wanted: _Wanted) -> int:
    from libs.operations.quarantine import Selection

    async with operator() as platform:
        if wanted.edit:
            document = await _edited(platform, wanted.event, afresh=wanted.afresh)
            wanted = replace(wanted, change=replace(wanted.change, document=document))
        made, done = await _corrected(platform, wanted, dry_run=True), None
        right = made.outcome in ("accepted", "duplicate")
        if not wanted.as_json:
            _tell_fix(made)
        goes = wanted.redrive and right and not wanted.dry_run
        if goes and not await confirmed(f"Publish event {wanted.event} so?", yes=wanted.yes):
            return 1
        if not wanted.dry_run:
            made = await _corrected(platform, wanted, dry_run=False)
        if goes:
            done = await redriven(platform, Selection(ids=[wanted.event]), wanted.because, dry_run=False)
    if wanted.as_json:
        write_json({**builtins(made), "dry_run": wanted.dry_run, "redrive": builtins(done)})
    _tell_next(made, done, dry_run=wanted.dry_run)
    return 0 if right else PROBLEMS


async def _corrected(platform: Operator, wanted: _Wanted, *, dry_run: bool) -> Fix:
    from libs.operations.actions import acting
    from libs.operations.quarantine import fix

    async with acting(await platform.postgres(), dry_run=dry_run) as connection:
        return await fix(
            connection,
            platform.datasets,
            wanted.event,
            wanted.change,
            afresh=wanted.afresh,
            because=wanted.because,
            actor=actor(),
        )


def _tell_fix(made: Fix) -> None:
    heading("what the correction changes")
    show_rows(builtins(made.differences), as_json=False, columns=_CHANGES, empty="Nothing is changed.")
    if wrong := [field for field in builtins(made.fields) if field["problem"]]:
        heading("what is still wrong")
        show_rows(wrong, as_json=False, columns=_WRONG, empty="")


def _tell_next(made: Fix, done: Redrive | None, *, dry_run: bool) -> None:
    if made.outcome not in ("accepted", "duplicate"):
        kept = "" if dry_run else " The correction so far is kept."
        say(f"Event {made.id} would still be in quarantine: {made.detail}.{kept}")
        if made.outcome == "conflict":
            say(f"As a correction under another identity: drp quarantine fix {made.id} --new-id")
        else:
            say(f"See: drp quarantine show {made.id}")
    elif done is not None:
        tell_redrive(done)
    elif dry_run:
        say("Nothing was kept. It would be right so.")
    else:
        say(f"The correction is kept, and nothing is published. Publish it: drp quarantine redrive {made.id}")


def _pairs(given: list[str] | None, option: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in given or ():
        name, separator, value = text.partition("=")
        if not separator or not name:
            raise typer.BadParameter(f"{text!r} is not FIELD=VALUE", param_hint=option)
        if name in found:
            raise typer.BadParameter(f"{name} is given twice", param_hint=option)
        found[name] = value
    return found


def _content(file: Path) -> bytes:
    return sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()


async def _edited(platform: Operator, event: int, *, afresh: bool) -> bytes:
    record = await reading.quarantined_event(await platform.postgres(), event)
    found: bytes = record["original"] if afresh or record["fixed"] is None else record["fixed"]
    return edited(found)
