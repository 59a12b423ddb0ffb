"""A stand-in for RustFS, and for MinIO: the platform's embedded S3 server, on port 9000 of a container.

It takes its keys as they do, from variables or the files that they name, and refuses requests under another access key.
Signatures are not checked.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from libs.runtime.embedded.objects_app import application, serve

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

NAMES = (("RUSTFS_ACCESS_KEY", "RUSTFS_SECRET_KEY"), ("MINIO_ROOT_USER", "MINIO_ROOT_PASSWORD"))
REFUSED = b"<Error><Code>InvalidAccessKeyId</Code><Message>this key is not known here</Message></Error>"


class Door:
    """/health for anybody, all else for those with the key."""

    def __init__(self, inner: WSGIApplication, access_key: str) -> None:
        self._inner = inner
        self._credential = f"Credential={access_key}/"

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/health":
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [b"ok"]
        if self._credential not in environ.get("HTTP_AUTHORIZATION", ""):
            start_response("403 Forbidden", [("Content-Type", "application/xml")])
            return [REFUSED]
        return self._inner(environ, start_response)


def access_key() -> str:
    for key, secret in NAMES:
        if (found := _given(key)) and _given(secret):
            return found
    sys.exit("no keys: " + " or ".join(f"{key}, {key}_FILE" for key, _ in NAMES))


def _given(name: str) -> str:
    """A setting, or what stands in the file that it names."""
    file = os.environ.get(f"{name}_FILE")
    return Path(file).read_text().strip() if file else os.environ.get(name, "")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    serve(Door(application(Path("/data")), access_key()), "0.0.0.0", 9000)  # noqa: S104 - in a container
