"""An answer as a file without a name: it is gone when it is closed."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from typing import IO, Final, Literal

from libs.errors import Permanent

__all__ = ["Form", "kept"]

Form = Literal["csv", "parquet"]

_UNWRITABLE: Final = (ArithmeticError, ValueError, NotImplementedError)
"""What Arrow raises for a type that a form doesn't have, or a value; an interval, say."""


def kept(form: Form, write: Callable[[IO[bytes]], object]) -> tuple[IO[bytes], int]:
    """What is written, at its beginning; and its size in bytes. Blocks.

    Raises:
        Permanent: the form has no such values.
        As write does.
    """
    sink = tempfile.TemporaryFile()  # noqa: SIM115 - it is closed by whoever sends it
    try:
        write(sink)
        size = sink.tell()
        sink.seek(0)
    except BaseException as error:
        sink.close()
        if not isinstance(error, _UNWRITABLE):
            raise
        raise Permanent(
            f"it can not be written as {form}", why=str(error), fix="cast the column to VARCHAR"
        ) from None
    return sink, size
