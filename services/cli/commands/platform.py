"""drp up, down, env: the embedded platform as a whole."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from libs.errors import Permanent
from services.cli.output import UNREACHABLE, Json, print_text, say, write_json

if TYPE_CHECKING:
    from libs.runtime.status import PlatformStatus

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    for command in (up, down, env):
        app.command()(command)


def _home() -> Path:
    from services.cli.settings import home_folder

    return home_folder()


def up(
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Return once every service is ready.")
    ] = False,
    scale: Annotated[
        list[str] | None,
        typer.Option(metavar="SERVICE=N", help="Replicas of a service, e.g. ingestor=3; or DRP_SCALE."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Start the platform in DRP_HOME, until Ctrl-C.

    Real servers from installed packages, and every service as a process. --json tells what runs once it is ready.
    """
    from libs.runtime import supervisor
    from libs.runtime.deployed import only_embedded

    only_embedded("up -d")
    home, wanted = _home(), _scale(scale)
    say(f"starting in {home}")
    if not detach:
        supervisor.up(home, scale=wanted, on_progress=_attached(home, as_json=as_json))
        return
    supervisor.up(home, detach=True, scale=wanted, on_progress=say)
    found = supervisor.status(home)
    if as_json:
        write_json(found)
    generator = next((part.url for part in found.parts if part.name == "generator"), None)
    say(f"Running. Orders are taken at {generator}/v1/orders")
    _tell_console(found)
    say("See the rest: drp status   Stop it: drp down")


def _tell_console(found: PlatformStatus) -> None:
    console = next((part.url for part in found.parts if part.name == "console"), None)
    if console is not None:
        say(f"See it: {console} (drp open)")


def _scale(told: list[str] | None) -> dict[str, int]:
    """What the command says, else what DRP_SCALE does."""
    from libs.runtime.scale import read_scale

    try:
        return read_scale([os.environ.get("DRP_SCALE", "")] if told is None else told)
    except Permanent as error:
        if told is not None:
            raise typer.BadParameter(str(error), param_hint="--scale") from error
        error.what = f"DRP_SCALE: {error.what}"
        raise


def _attached(home: Path, *, as_json: bool) -> Callable[[str], None]:
    """Says each step; where the console is, and the one document, when all is ready."""
    from libs.runtime.status import is_ready, status

    told = False

    def tell(message: str) -> None:
        nonlocal told
        say(message)
        if not told and is_ready(home) and (found := status(home)).ready:
            told = True
            _tell_console(found)
            if as_json:
                write_json(found)

    return tell


def down(as_json: Json = False) -> None:
    """Stop what runs in DRP_HOME. The data stays."""
    from libs.runtime import supervisor
    from libs.runtime.deployed import only_embedded

    only_embedded("down")
    home = _home()
    stopped = supervisor.down(home, on_progress=say)
    say(f"stopped what ran in {home}" if stopped else f"nothing runs in {home}")
    if as_json:
        write_json({"home": str(home), "stopped": stopped})


def env(as_json: Json = False) -> None:
    """Print `export` lines for what runs: eval "$(drp env)"

    URLs, keys and passwords of what runs in DRP_HOME. Exit 5 if nothing does.
    """
    home = _home()
    found = _environment(home)
    if as_json:
        write_json(found)
    else:
        for name, value in sorted(found.items()):
            print_text(f"export {name}={shlex.quote(value)}")
    if not found:
        say(f"Nothing runs in {home}. Start it: drp up --detach")
        raise typer.Exit(UNREACHABLE)


def _environment(home: Path) -> dict[str, str]:
    from libs.runtime.deployed import run_by
    from libs.runtime.layout import shared_environment
    from libs.runtime.settings import ServiceSettings
    from libs.runtime.status import environment

    # Where nothing but the settings knows what runs, they are all there is to tell.
    return shared_environment(home, ServiceSettings(), {}) if run_by() else environment(home)
