"""drp doctor, drp config: does the promise hold here, and what is configured?"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated

import httpx
import msgspec
import typer

from libs.errors import DrpError
from libs.operations.doctor import Finding, examine_disk, examine_postgres, examine_redis
from services.cli.output import PROBLEMS, Json, say, show_record, show_rows, write_json
from services.cli.settings import Operator, operator

__all__ = ["register"]

_SECRET = ("url", "key", "secret", "password", "token")

config = typer.Typer(help="What this command works with.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    app.command("doctor")(doctor)
    app.add_typer(config, name="config")


def doctor(as_json: Json = False) -> None:
    """Check that acknowledged means kept: server settings, disk, datasets, object store. Exit 3 if it does not."""
    findings = asyncio.run(_examine())
    guaranteed = not any(finding.state == "problem" for finding in findings)
    if as_json:
        write_json({"guaranteed": guaranteed, "findings": findings})
    else:
        rows = [msgspec.structs.asdict(finding) for finding in findings]
        show_rows(rows, as_json=False, columns=("check", "state", "detail", "fix"), empty="")
        say(
            "\nguaranteed"
            if guaranteed
            else "\nnot guaranteed: the promise rests on what is marked a problem"
        )
    raise typer.Exit(0 if guaranteed else PROBLEMS)


async def _examine() -> list[Finding]:
    async with operator() as platform:
        findings = [examine_disk(platform.settings.home)]
        for check, look in _LOOKS.items():
            try:
                findings += await look(platform)
            except DrpError as error:
                findings.append(
                    Finding(check=check, state="problem", detail=f"{error.what}: {error.why}", fix=error.fix)
                )
    return findings


async def _redis(platform: Operator) -> list[Finding]:
    return await examine_redis(await platform.bus())


async def _postgres(platform: Operator) -> list[Finding]:
    return await examine_postgres(await platform.postgres())


async def _datasets(platform: Operator) -> list[Finding]:
    return [Finding(check="datasets", state="ok", detail=", ".join(platform.datasets))]


async def _objects(platform: Operator) -> list[Finding]:
    if platform.settings.archive == "off":
        return [
            Finding(check="archive", state="warning", detail="turned off: nothing can be replayed from it")
        ]
    store = await platform.objects()
    await store.ensure_bucket()
    return [Finding(check="archive", state="ok", detail=f"bucket {platform.settings.s3_bucket} answers")]


async def _alerts(platform: Operator) -> list[Finding]:
    if platform.settings.alert_webhook_url:
        return [Finding(check="alerts", state="ok", detail="a webhook is set")]
    return [
        Finding(
            check="alerts",
            state="warning",
            detail="no webhook: nobody is told",
            fix="set DRP_ALERT_WEBHOOK_URL",
        )
    ]


async def _traces(platform: Operator) -> list[Finding]:
    url = platform.settings.traces_url
    if url is None:
        return [
            Finding(
                check="traces", state="warning", detail="nowhere to ask for them", fix="set DRP_TRACES_URL"
            )
        ]
    try:
        async with httpx.AsyncClient(timeout=3) as client:
            (await client.get(f"{url}/api/services")).raise_for_status()
    except httpx.HTTPError as error:
        return [Finding(check="traces", state="warning", detail=f"{url} does not answer: {error}")]
    return [Finding(check="traces", state="ok", detail=url)]


_LOOKS: dict[str, Callable[[Operator], Awaitable[list[Finding]]]] = {
    "redis": _redis,
    "postgres": _postgres,
    "datasets": _datasets,
    "archive": _objects,
    "alerts": _alerts,
    "traces": _traces,
}


@config.command("show")
def show(
    reveal: Annotated[bool, typer.Option("--reveal", help="Secrets too.")] = False, as_json: Json = False
) -> None:
    """Every setting of this command, from the environment or the running platform; secrets masked."""

    async def run() -> dict[str, object]:
        async with operator() as platform:
            return platform.settings.model_dump(mode="json")

    values = asyncio.run(run())
    if not reveal:
        values = {name: _masked(name, value) for name, value in values.items()}
    show_record(values, as_json=as_json)


def _masked(name: str, value: object) -> object:
    """A URL keeps its host, whose password is what is secret; any other secret shows that it is set."""
    if not isinstance(value, str) or not name.endswith(_SECRET):
        return value
    if "://" in value:
        scheme, _, rest = value.partition("://")
        return f"{scheme}://{'***@' if '@' in rest else ''}{rest.rpartition('@')[2]}"
    return "***"
