"""Opening a file and telling what it holds."""

from __future__ import annotations

import gzip
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final, cast

from libs.adapters.files.rows import Kind
from libs.errors import Permanent

__all__ = ["form_of", "is_gzip", "opened", "spooled"]

GZIP: Final = b"\x1f\x8b"


def form_of(path: Path) -> Kind:
    """What the file holds, by its name, else by how it begins.

    Raises:
        Permanent: it cannot be opened, is empty, or is of a form that is not taken.
    """
    names = [suffix.lower() for suffix in path.suffixes if suffix.lower() != ".gz"]
    named: dict[str, Kind] = {
        ".csv": "csv",
        ".tsv": "csv",
        ".jsonl": "jsonl",
        ".ndjson": "jsonl",
        ".parquet": "parquet",
    }
    with opened(path) as file:
        start = file.read(64).lstrip(b"\xef\xbb\xbf \r\n\t")
    if not start:
        raise Permanent(f"{path} is empty")
    if start.startswith(b"PAR1"):
        if is_gzip(path):
            raise Permanent(f"{path} is a Parquet file within gzip", fix=f"gunzip {path}")
        return "parquet"
    if start.startswith(b"["):
        raise Permanent(f"{path} begins like a JSON array", fix="write one object a line: jq -c '.[]'")
    by_name = named.get(names[-1]) if names else None
    return by_name or ("jsonl" if start.startswith(b"{") else "csv")


def opened(path: Path) -> IO[bytes]:
    try:
        return cast("IO[bytes]", gzip.open(path)) if is_gzip(path) else path.open("rb")
    except OSError as error:
        raise Permanent(f"cannot open {path}", why=error.strerror or str(error)) from error


def is_gzip(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(2) == GZIP
    except OSError as error:
        raise Permanent(f"cannot open {path}", why=error.strerror or str(error)) from error


@contextmanager
def spooled(stream: IO[bytes], name: str) -> Iterator[Path]:
    """What the stream gives up to its end, as a file called so in a folder of its own, gone afterwards.

    A pipe can be read once, and what it holds is told by looking first. Memory does not grow with it.
    """
    with tempfile.TemporaryDirectory(prefix="drp-") as folder:
        path = Path(folder) / name
        with path.open("wb") as file:
            shutil.copyfileobj(stream, file, 1 << 20)
        yield path
