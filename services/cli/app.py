"""drp, the operator's command: stdout is data, stderr is messages, the exit code is the answer.

Exit codes: 0 fine, 1 error, 2 usage, 3 ran and found problems, 5 unreachable or timed out, 130 interrupted.
"""

from __future__ import annotations

import sys
from typing import NoReturn

import typer

from libs.errors import DrpError, Transient
from services.cli.commands import (
    archive,
    batches,
    dataset,
    demo,
    doctor,
    ledger,
    platform,
    publish,
    quality,
    quarantine,
    replay,
    sql,
    trace,
    warehouse,
)
from services.cli.output import UNREACHABLE, say

__all__ = ["app", "main"]

app = typer.Typer(
    name="drp",
    help="The Data Reliability Platform: of every event you can say where it is.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

platform.register(app)
publish.register(app)
app.add_typer(batches.app, name="batches")
trace.register(app)
app.add_typer(quality.app, name="quality")
app.add_typer(quarantine.app, name="quarantine")
replay.register(app)
app.add_typer(archive.app, name="archive")
app.add_typer(ledger.app, name="ledger")
sql.register(app)
app.add_typer(warehouse.app, name="warehouse")
app.add_typer(dataset.app, name="dataset")
doctor.register(app)
demo.register(app)


def main() -> NoReturn:
    """Run the command; an expected error becomes one line that says what, why and the next command."""
    try:
        code = app(standalone_mode=False)
    except typer.TyperException as wrong:
        say(f"drp: {wrong.format_message()} Try: drp --help")
        code = wrong.exit_code
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except Transient as error:
        say(f"drp: {error}")
        code = UNREACHABLE
    except DrpError as error:
        say(f"drp: {error}")
        code = 1
    except BrokenPipeError:  # the reader (head, less) has seen enough
        sys.stderr.close()
        code = 0
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
