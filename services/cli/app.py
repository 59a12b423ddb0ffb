"""drp, the operator's command: stdout is data, stderr is messages, the exit code is the answer.

Exit codes: 0 fine, 1 error, 2 usage, 3 ran and found problems, 5 unreachable or timed out, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from typing import Any, Final, NoReturn

import typer
from typer.core import TyperGroup

from libs.errors import DrpError, Transient
from services.cli.commands import (
    alert,
    archive,
    batches,
    console,
    dataset,
    demo,
    doctor,
    events,
    ledger,
    platform,
    publish,
    quality,
    quarantine,
    replay,
    sql,
    status,
    trace,
    warehouse,
    why,
)
from services.cli.output import INTERRUPTED, UNREACHABLE, reader_is_gone, say
from services.cli.settings import home_folder

__all__ = ["app", "main"]

_SECTIONS: Final = {
    "Platform": ("up", "down", "status", "open", "env", "doctor", "config", "demo"),
    "Events": ("publish", "batches", "events", "why", "trace", "quarantine", "ledger", "replay", "archive"),
    "Warehouse": ("sql", "warehouse", "quality", "rebuild", "dataset", "alert"),
}


class _Sections(TyperGroup):
    """Commands under what they are about, rather than in one long list."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 - called so
        for title, names in _SECTIONS.items():
            found = [(name, self.commands[name].get_short_help_str(limit=70)) for name in names]
            with formatter.section(title):
                formatter.write_dl(found)


app = typer.Typer(
    cls=_Sections,
    name="drp",
    help="The Data Reliability Platform: of every event you can say where it is.",
    epilog="Exit codes: 0 fine, 1 error, 2 usage, 3 ran and found problems, 5 unreachable or timed out, "
    "130 interrupted. Data goes to stdout, messages to stderr.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

platform.register(app)
status.register(app)
console.register(app)
publish.register(app)
app.add_typer(batches.app, name="batches")
why.register(app)
trace.register(app)
app.add_typer(quality.app, name="quality")
app.add_typer(events.app, name="events")
app.add_typer(quarantine.app, name="quarantine")
replay.register(app)
app.add_typer(archive.app, name="archive")
app.add_typer(ledger.app, name="ledger")
sql.register(app)
app.add_typer(warehouse.app, name="warehouse")
app.add_typer(dataset.app, name="dataset")
app.add_typer(alert.app, name="alert")
doctor.register(app)
demo.register(app)


def main() -> NoReturn:
    """Run the command; an expected error becomes one line that says what, why and the next command."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal that has not all letters
    code = _run()
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        code = 0
    if reader_is_gone(sys.stdout):  # what is still buffered has nowhere to go
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def _run() -> int:
    try:
        code = app(standalone_mode=False)
    except typer.TyperException as wrong:
        return _misused(wrong)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except Transient as error:
        say(_said(error))
        code = UNREACHABLE
    except DrpError as error:
        say(_said(error))
        code = 1
    except BrokenPipeError:  # the reader (head, less) has seen enough
        code = 0
    except OSError as error:
        say(f"drp: {_refused(error)}")
        code = 1
    except SystemExit as ended:  # so typer ends when the reader has left
        code = 0 if reader_is_gone(sys.stdout) else ended.code
    if code == INTERRUPTED:
        say("drp: interrupted")
    return code if isinstance(code, int) else 0


def _said(error: DrpError) -> str:
    """What, why and the next command; that on a line of its own after a why of several."""
    said = error.what if error.why is None else f"{error.what}: {error.why}"
    if error.fix is None:
        return f"drp: {said}"
    return f"drp: {said}\nTry: {error.fix}" if "\n" in said else f"drp: {said.rstrip('.')}. Try: {error.fix}"


def _refused(error: OSError) -> str:
    """What the system would not do, and with which file."""
    where = str(error.filename or "the system")
    hint = ". Try: another DRP_HOME" if where.startswith(str(home_folder())) else ""
    return f"{where}: {error.strerror or error}{hint}"


def _misused(wrong: typer.TyperException) -> int:
    """A wrong call says how to call it; one without any arguments gets the help."""
    context = getattr(wrong, "ctx", None)
    message = wrong.format_message()
    if context is not None and message == context.get_help():
        say(message)
    else:
        said = message.removeprefix("Invalid value: ").rstrip(".")
        end = "" if said.endswith("?") else "."  # it asks whether another command was meant
        say(f"drp: {said}{end} Try: {context.command_path if context else 'drp'} -h")
    return wrong.exit_code


if __name__ == "__main__":
    main()
