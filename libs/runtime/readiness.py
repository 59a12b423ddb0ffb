"""Is a service ready? Its /readyz says, and what is wrong if not.

    python -m libs.runtime.readiness [PORT]

A container's health check: exit code 1 with what is wrong on stdout. PORT: that of DRP_HTTP_PORT if left out. Only
the standard library is imported, for it is asked every few seconds.
"""

from __future__ import annotations

import http
import http.client
import json
import os
import sys
from typing import Any, Final

__all__ = ["main", "readiness"]

ANSWER_WITHIN: Final = 3.0


def readiness(port: int, host: str = "127.0.0.1", *, pid: int | None = None) -> str | None:
    """What /readyz finds wrong; None if nothing. pid: the process that is meant, where the port may be another's."""
    connection = http.client.HTTPConnection(host, port, timeout=ANSWER_WITHIN)
    try:
        connection.request("GET", "/readyz")
        response = connection.getresponse()
        body = response.read()
    except (OSError, http.client.HTTPException) as error:
        return f"no answer: {error}"
    finally:
        connection.close()
    if pid is not None and _told(body, "pid") != pid:
        return f"another process answers on port {port}"
    return None if response.status == http.HTTPStatus.OK else _wrong(body)


def _wrong(body: bytes) -> str:
    checks = _told(body, "checks")
    try:
        wrong = [f"{name}: {check['detail']}" for name, check in checks.items() if not check["ok"]]
    except (KeyError, TypeError, AttributeError):
        return "not ready"
    return "; ".join(wrong) or "not ready"


def _told(body: bytes, name: str) -> Any:
    try:
        return json.loads(body)[name]
    except (ValueError, KeyError, TypeError):
        return None


def main(arguments: list[str] | None = None) -> int:
    given = sys.argv[1:] if arguments is None else arguments
    wrong = readiness(int(given[0] if given else os.environ["DRP_HTTP_PORT"]))
    if wrong is not None:
        sys.stdout.write(f"{wrong}\n")
    return 0 if wrong is None else 1


if __name__ == "__main__":
    sys.exit(main())
