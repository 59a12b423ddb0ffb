"""drp alert: does what goes wrong reach a person?"""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from services.cli.asking import actor
from services.cli.output import PROBLEMS, Json, say, write_json
from services.cli.settings import operator

app = typer.Typer(help="Alerts: try whether they arrive.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def group() -> None:
    """Alerts: try whether they arrive."""


@app.command("test")
def send_test(
    timeout: Annotated[float, typer.Option(min=0, metavar="SECONDS", help="Wait so long at most.")] = 15,
    as_json: Json = False,
) -> None:
    """Send a test alert on the way that real ones take.

    Exit 3 if no webhook took it. Exit 5 if it is still on its way when the time is up.
    """

    async def run() -> bool:
        from libs.operations.alerts import send_test_alert

        async with operator() as platform:
            outcome = await send_test_alert(await platform.postgres(), actor=actor(), wait=timeout)
        if as_json:
            write_json(outcome)
        if outcome.state == "sent":
            say(f"The alert was sent, at attempt {outcome.attempts}.")
        else:
            say(
                f"The alert was not sent: {outcome.error}. Try: set DRP_ALERT_WEBHOOK_URL, then restart audit"
            )
        return outcome.state == "sent"

    raise typer.Exit(0 if asyncio.run(run()) else PROBLEMS)
