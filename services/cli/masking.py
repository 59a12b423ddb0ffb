"""Settings as they may be shown: screens are read over shoulders, and logs by many."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["masked"]

_HIDDEN: Final = "***"
_SECRET: Final = ("_key", "_secret", "_password", "_token", "_url")
_ADDRESS: Final = re.compile(
    r"""(?P<scheme>[a-z][a-z0-9+.-]*://)(?P<user>[^@/?#]*@)?(?P<host>[^@/?#]*)(?P<path>/[^@?#]*)?
        (?P<query>[?#][^@]*)?""",
    re.VERBOSE | re.IGNORECASE,
)


def masked(name: str, value: object) -> object:
    """A URL keeps where it leads, any other secret only that it is set. A webhook's path is a secret too."""
    if not isinstance(value, str) or not value:
        return value
    if "://" not in value:
        return _HIDDEN if name.endswith(_SECRET) else value
    parts = _ADDRESS.fullmatch(value)
    if parts is None:  # one that cannot be told apart for certain is not shown at all
        return _HIDDEN
    user, path, query = parts["user"] or "", parts["path"] or "", parts["query"] or ""
    if "webhook" in name and len(path) > 1:
        path = f"/{_HIDDEN}"
    hidden = f"?{_HIDDEN}" if query else ""
    return f"{parts['scheme']}{f'{_HIDDEN}@' if user else ''}{parts['host']}{path}{hidden}"
