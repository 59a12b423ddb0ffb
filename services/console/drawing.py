"""Pages out of templates, and the static files that they name. Nothing here asks a server."""

from __future__ import annotations

import hashlib
import mimetypes
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import msgspec
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from services.console.domain import words

__all__ = ["STATIC", "StaticFile", "draw", "static_files"]

_HERE: Final = Path(__file__).parent
STATIC: Final = _HERE / "static"
_TYPES: Final = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8"}


@dataclass(frozen=True, slots=True)
class StaticFile:
    """A file that pages name, in memory. version: the start of its hash, part of its address."""

    content: bytes
    media_type: str
    version: str


@cache
def static_files() -> Mapping[str, StaticFile]:
    """By their path below static/."""
    paths = [path for path in sorted(STATIC.rglob("*")) if path.is_file()]
    return {path.relative_to(STATIC).as_posix(): _file(path) for path in paths}


def _file(path: Path) -> StaticFile:
    content = path.read_bytes()
    media_type = _TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return StaticFile(content, media_type, hashlib.sha256(content).hexdigest()[:12])


def draw(template: str, **values: Any) -> str:
    """The template as HTML.

    Args:
        values: what it shows; `now` among them, by which ages are told.
    """
    return _environment().get_template(template).render(values)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        name: getattr(words, name)
        for name in ("ago", "moment", "number", "rate", "share", "short", "sign", "size", "span")
    }
    environment.filters["data"] = _data
    environment.filters["breakable"] = _breakable
    environment.globals["static"] = _address
    return environment


def _address(path: str) -> str:
    return f"/static/{static_files()[path].version}/{path}"


def _breakable(names: str) -> Markup:
    """Names that a narrow page may break after an underscore, and not elsewhere."""
    return Markup("_<wbr>").join(names.split("_"))


def _data(value: object) -> Markup:
    """A value as the JSON of a quoted attribute."""
    return Markup("{}").format(msgspec.json.encode(value).decode())
