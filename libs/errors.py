"""The two errors of the house. One question decides: will retrying help?

DrpError
├── Transient    the world may be different in a moment: back off and try again
└── Permanent    it will fail the same way every time: keep the evidence, tell a person
"""

from __future__ import annotations

__all__ = ["DrpError", "Permanent", "Transient"]


class DrpError(Exception):
    """Something failed, said so that a person can act.

    Args:
        what: what failed, in one clause.
        why: the cause, if it is known.
        fix: the next command or change that helps, if there is one.
    """

    def __init__(self, what: str, *, why: str | None = None, fix: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.fix = fix

    def __str__(self) -> str:
        text = self.what if self.why is None else f"{self.what}: {self.why}"
        return text if self.fix is None else f"{text}. Try: {self.fix}"


class Transient(DrpError):
    """Retrying may help: a connection was lost, a lock timed out, a server is starting."""


class Permanent(DrpError):
    """Retrying cannot help: the input or the configuration is wrong."""
