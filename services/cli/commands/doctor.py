"""drp doctor, drp config: does the promise hold here, and what is configured?"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Final

import typer

from libs.errors import DrpError
from services.cli.masking import masked
from services.cli.output import PROBLEMS, Json, say, show_record, show_rows, write_json
from services.cli.settings import Operator, operator

if TYPE_CHECKING:
    from libs.operations.doctor import Finding

__all__ = ["register"]

config = typer.Typer(
    help="Settings: what this command works with.", no_args_is_help=True, rich_markup_mode=None
)


def register(app: typer.Typer) -> None:
    app.command("doctor")(doctor)
    app.add_typer(config, name="config")


def doctor(as_json: Json = False) -> None:
    """Check that acknowledged means kept.

    Asks Redis, Postgres and the object store for the settings that the promise rests on, and looks at disk,
    datasets, alerts and traces. Exit 3 if it is not guaranteed.
    """
    import msgspec

    findings = asyncio.run(_examine())
    guaranteed = not any(finding.state == "problem" for finding in findings)
    if as_json:
        write_json({"guaranteed": guaranteed, "findings": findings})
    else:
        rows = [msgspec.structs.asdict(finding) for finding in findings]
        show_rows(rows, as_json=False, columns=("check", "state", "detail", "fix"), empty="")
    say("guaranteed" if guaranteed else "not guaranteed: the promise rests on what is marked a problem")
    raise typer.Exit(0 if guaranteed else PROBLEMS)


async def _examine() -> list[Finding]:
    """Every look at once: one that waits for a server that is away holds up none of the others."""
    from libs.operations.doctor import examine_disk

    async with operator() as platform:
        looks = [_look(check, look, platform) for check, look in _LOOKS.items()]
        found = await asyncio.gather(*looks)
        return [
            examine_disk(platform.settings.home.absolute()),
            *(finding for each in found for finding in each),
        ]


async def _look(
    check: str, look: Callable[[Operator], Awaitable[list[Finding]]], platform: Operator
) -> list[Finding]:
    from libs.operations.doctor import Finding

    try:
        return await look(platform)
    except DrpError as error:
        detail = error.what if error.why is None else f"{error.what}: {error.why}"
        return [Finding(check=check, state="problem", detail=detail, fix=error.fix)]


async def _redis(platform: Operator) -> list[Finding]:
    from libs.operations.doctor import examine_redis

    return await examine_redis(await platform.bus())


async def _postgres(platform: Operator) -> list[Finding]:
    from libs.operations.doctor import examine_postgres

    return await examine_postgres(await platform.postgres())


async def _datasets(platform: Operator) -> list[Finding]:
    from libs.operations.doctor import Finding

    return [Finding(check="datasets", state="ok", detail=", ".join(platform.datasets))]


async def _objects(platform: Operator) -> list[Finding]:
    from libs.operations.doctor import Finding, examine_objects

    if platform.settings.archive == "off":
        detail = "turned off: nothing can be replayed from it"
        return [Finding(check="archive", state="warning", detail=detail)]
    return [await examine_objects(await platform.objects())]


async def _alerts(platform: Operator) -> list[Finding]:
    from libs.operations.doctor import Finding

    if platform.settings.alert_webhook_url:
        return [Finding(check="alerts", state="ok", detail="a webhook is set", fix="try it: drp alert test")]
    detail, fix = "no webhook: nobody is told", "set DRP_ALERT_WEBHOOK_URL"
    return [Finding(check="alerts", state="warning", detail=detail, fix=fix)]


async def _traces(platform: Operator) -> list[Finding]:
    from libs.operations.doctor import Finding
    from libs.operations.trace import fetch_traces

    url = platform.settings.traces_url
    if url is None:
        detail, fix = "nowhere to ask for them", "set DRP_TRACES_URL"
        return [Finding(check="traces", state="warning", detail=detail, fix=fix)]
    try:
        await fetch_traces(url, ["1" * 32])
    except DrpError as error:
        return [Finding(check="traces", state="warning", detail=f"{error.what}: {error.why}", fix=error.fix)]
    return [Finding(check="traces", state="ok", detail=f"{masked('traces_url', url)} answers")]


_LOOKS: Final[dict[str, Callable[[Operator], Awaitable[list[Finding]]]]] = {
    "redis": _redis,
    "postgres": _postgres,
    "datasets": _datasets,
    "archive": _objects,
    "alerts": _alerts,
    "traces": _traces,
}


@config.callback()
def group() -> None:
    """Settings: what this command works with."""


@config.command("show")
def show(
    reveal: Annotated[bool, typer.Option("--reveal", help="Secrets too.")] = False, as_json: Json = False
) -> None:
    """Show every setting of this command, secrets masked.

    From the environment, else from the platform that runs in DRP_HOME.
    """

    async def run() -> dict[str, object]:
        async with operator() as platform:
            home = str(platform.settings.home.absolute())
            return platform.settings.model_dump(mode="json") | {"home": home}

    values = asyncio.run(run())
    shown = values if reveal else {name: masked(name, value) for name, value in values.items()}
    show_record(shown, as_json=as_json)
