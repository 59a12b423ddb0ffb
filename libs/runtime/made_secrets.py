"""The secrets of a deployed platform, as files: those that were given, and random ones for the rest.

    python -m libs.runtime.made_secrets FOLDER [--replace]

Given are DRP_REDIS_PASSWORD, DRP_POSTGRES_PASSWORD, DRP_S3_ACCESS_KEY and DRP_S3_SECRET_KEY, or a file of each as
NAME_FILE. What isn't given is made once and kept. Beside each there is what holds it: redis.conf for the server, the
URLs of Redis and Postgres for the services. A database keeps the password it was made with, so another one is
refused, unless --replace says that it was told the new one.
"""

from __future__ import annotations

import argparse
import re
import secrets
import sys
from pathlib import Path
from typing import Final
from urllib.parse import quote

from pydantic import Field

from libs.errors import DrpError, Permanent
from libs.runtime.settings import ServiceSettings

__all__ = ["SecretSettings", "main", "make_secrets"]

READABLE: Final = 0o444
"""Each server runs as a user of its own, and only theirs and the services' containers are given the folder."""

LENGTHS: Final = {"redis_password": 24, "postgres_password": 24, "s3_access_key": 10, "s3_secret_key": 20}
"""Bytes of those that are made. S3 servers take access keys of up to 20 characters."""

SHORTEST: Final = 12
PLAIN: Final = re.compile(r"[A-Za-z0-9._~+=/-]+")
KEPT_BY_ITS_SERVER: Final = "postgres_password"


class SecretSettings(ServiceSettings):
    redis_password: str | None = Field(default=None, repr=False)
    postgres_password: str | None = Field(default=None, repr=False)
    redis_address: str = "redis:6379"
    postgres_address: str = "postgres:5432"


def make_secrets(folder: Path, settings: SecretSettings, *, replace: bool = False) -> list[str]:
    """Write the files; returns what was done, one sentence each, without any secret.

    Raises:
        Permanent: a given secret cannot be used, or is not the one that the database was made with.
    """
    given = {
        "redis_password": settings.redis_password,
        "postgres_password": settings.postgres_password,
        "s3_access_key": settings.s3_access_key,
        "s3_secret_key": settings.s3_secret_key,
    }
    chosen: dict[str, str] = {}
    told = []
    for name, value in given.items():
        held = _held(folder / name)
        if value is not None:
            _check(name, value)
        if name == KEPT_BY_ITS_SERVER and value and held and value != held and not replace:
            raise _another(name)
        chosen[name] = value or held or secrets.token_hex(LENGTHS[name])
        if chosen[name] != held:
            told.append(f"{name}: {'given' if value else 'made'}{' anew' if held else ''}")
    for name, value in (chosen | _what_holds_them(chosen, settings)).items():
        _write(folder / name, value)
    return told


def _what_holds_them(chosen: dict[str, str], settings: SecretSettings) -> dict[str, str]:
    redis, postgres = (quote(chosen[f"{name}_password"], safe="") for name in ("redis", "postgres"))
    return {
        "redis.conf": f'requirepass "{chosen["redis_password"]}"\n',
        "redis_url": f"redis://default:{redis}@{settings.redis_address}/0",
        "postgres_url": f"postgresql://drp:{postgres}@{settings.postgres_address}/drp",
    }


def _check(name: str, value: str) -> None:
    if len(value) < SHORTEST:
        why = f"it has {len(value)} characters, {SHORTEST} are the least"
    elif not PLAIN.fullmatch(value):
        why = "it may hold letters, digits and . _ ~ + = / -"
    else:
        return
    raise Permanent(
        f"DRP_{name.upper()} cannot be used", why=why, fix="another one, or none: then one is made"
    )


def _another(name: str) -> Permanent:
    return Permanent(
        f"DRP_{name.upper()} is not the password that the database was made with",
        why="the database keeps its own",
        fix="leave it out; or ALTER ROLE drp PASSWORD '…' in the database, then run this step with --replace",
    )


def _held(path: Path) -> str | None:
    try:
        return path.read_text().strip() or None
    except FileNotFoundError:
        return None


def _write(path: Path, value: str) -> None:
    """Whole or not at all: a server may be starting."""
    if path.exists() and path.read_text() == value:
        return
    draft = path.with_name(f".{path.name}.new")
    draft.unlink(missing_ok=True)
    draft.touch(mode=0o600)
    draft.write_text(value)
    draft.chmod(READABLE)
    draft.replace(path)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="made_secrets")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--replace", action="store_true")
    options = parser.parse_args(arguments)
    try:
        told = make_secrets(options.folder, SecretSettings(), replace=options.replace)
    except (DrpError, OSError) as error:
        sys.stderr.write(f"no secrets: {error}\n")
        return 1
    sys.stderr.write("".join(f"{line}\n" for line in told) or "every secret is there already\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
