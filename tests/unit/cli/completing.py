"""What the installed `drp` offers on TAB, asked as a shell asks it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

__all__ = ["offered"]

DRP: Final = Path(sys.executable).with_name("drp")


def offered(line: str, environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """What may stand in the place of the line's last word, with what fish shows beside it."""
    asked = {
        **(os.environ if environment is None else environment),
        "_DRP_COMPLETE": "complete_fish",
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        "_TYPER_COMPLETE_ARGS": line,
    }
    done = subprocess.run([DRP], env=asked, capture_output=True, text=True, timeout=240, check=False)
    assert done.stderr == ""
    found = (offer.partition("\t") for offer in done.stdout.splitlines() if offer)
    return {value: said for value, _, said in found}
