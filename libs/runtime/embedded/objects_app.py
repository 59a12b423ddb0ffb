"""The embedded S3 server: moto over HTTP/1.1, with each object written and flushed to disk before the reply.

    python -m libs.runtime.embedded.objects_app --folder F --port P

One file an object: a line of JSON (key, metadata, checksums), then the body. One request at a time touches
the objects, so `If-None-Match: *` is decided once, and nobody is shown an object that isn't on disk yet.
Bodies stay on disk, not in memory. GET /readyz says which process this is, so no bucket can be called that. Not
kept over a restart: unfinished multipart uploads, old versions, bucket settings.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import os
import signal
import sys
import threading
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment
    from moto.s3.models import FakeKey, S3Backend

__all__ = ["Kept", "Store", "application", "main", "serve"]

REGION: Final = "us-east-1"
CHANGING: Final = {"PUT", "POST", "DELETE"}


class Kept(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The first line of an object's file."""

    key: str
    etag: str
    size: int
    last_modified: datetime
    metadata: dict[str, str] = {}
    storage_class: str | None = "STANDARD"
    checksum_algorithm: str | None = None
    checksum_value: str | None = None
    checksum_type: str | None = None


class BodyOnDisk(io.RawIOBase):
    """What moto takes for an object's buffer: the file behind its first line, opened while it is read."""

    def __init__(self, path: Path, start: int) -> None:
        self._path = path
        self._start = start
        self._position = 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if whence == os.SEEK_END:
            offset += self._path.stat().st_size - self._start
        elif whence == os.SEEK_CUR:
            offset += self._position
        self._position = offset
        return offset

    def tell(self) -> int:
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        with self._path.open("rb") as file:
            file.seek(self._start + self._position)
            content = file.read(-1 if size is None else size)
        self._position += len(content)
        return content


class Store:
    """The objects on disk, and moto's idea of them, held equal."""

    def __init__(self, folder: Path, backend: S3Backend) -> None:
        self._folder = folder
        self._backend = backend
        self._written: dict[tuple[str, str], FakeKey] = {}

    def load(self) -> int:
        """Give moto every bucket and object that is on disk; returns how many objects."""
        for bucket in sorted(self._folder.iterdir()):
            self._backend.create_bucket(bucket.name, REGION)
            for path in bucket.glob("??/*"):
                if path.suffix == ".new":
                    path.unlink()
                else:
                    self._load_object(bucket.name, path)
        return len(self._written)

    def keep(self, bucket: str, key: str | None) -> None:
        """Put on disk what a request changed: one object, or (key None) whatever differs in the bucket.

        Raises:
            OSError: it could not be written; moto has forgotten it then.
        """
        if bucket not in self._backend.buckets:
            self._drop_bucket(bucket)
            return
        if not (self._folder / bucket).is_dir():
            (self._folder / bucket).mkdir()
            _flush_folder(self._folder)
        if key is not None:
            self._keep_object(bucket, key)
            return
        known = {name for owner, name in self._written if owner == bucket}
        for name in known | set(self._backend.buckets[bucket].keys):
            self._keep_object(bucket, name)

    def _keep_object(self, bucket: str, name: str) -> None:
        held = self._backend.buckets[bucket].keys.get(name)
        path = self._path(bucket, name)
        if held is None or not hasattr(held, "contentsize"):
            if self._written.pop((bucket, name), None) is not None:
                path.unlink(missing_ok=True)
                _flush_folder(path.parent)
        elif self._written.get((bucket, name)) is not held:
            try:
                start = _write(path, _header(held), held.value)
            except OSError:
                self._backend.buckets[bucket].keys.pop(name)
                raise
            held._value_buffer = BodyOnDisk(path, start)
            self._written[bucket, name] = held

    def _load_object(self, bucket: str, path: Path) -> None:
        with path.open("rb") as file:
            line = file.readline()
        kept = msgspec.json.decode(line, type=Kept)
        held = self._backend.put_object(
            bucket,
            kept.key,
            b"",
            storage=kept.storage_class,
            etag=kept.etag,
            checksum_value=kept.checksum_value,
            disable_notification=True,
        )
        held.set_metadata(kept.metadata, replace=False)
        held.last_modified = kept.last_modified.replace(tzinfo=None)
        held.checksum_algorithm = kept.checksum_algorithm
        held.checksum_type = kept.checksum_type
        held.contentsize = kept.size
        held._value_buffer = BodyOnDisk(path, len(line))  # type: ignore[assignment]
        self._written[bucket, kept.key] = held

    def _drop_bucket(self, bucket: str) -> None:
        folder = self._folder / bucket
        if folder.is_dir():
            for path in folder.glob("??/*"):
                path.unlink()
            for path in (*folder.iterdir(), folder):
                path.rmdir()
            _flush_folder(self._folder)
        self._written = {place: held for place, held in self._written.items() if place[0] != bucket}

    def _path(self, bucket: str, key: str) -> Path:
        # A key may hold anything, and one may be the folder of another: its hash names the file.
        name = hashlib.sha256(key.encode()).hexdigest()
        return self._folder / bucket / name[:2] / name[2:]


class Durable:
    """WSGI: one request at a time, and the disk before the reply."""

    def __init__(self, application: WSGIApplication, store: Store) -> None:
        self._application = application
        self._store = store
        self._lock = threading.Lock()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        replies: list[tuple[Any, ...]] = []

        def hold_reply(*reply: Any) -> Any:
            replies.append(reply)
            return lambda _: None

        if environ["PATH_INFO"] == "/readyz":
            start_response("200 OK", [("Content-Type", "application/json")])
            return [msgspec.json.encode({"status": "ok", "pid": os.getpid()})]
        if length := environ.get("CONTENT_LENGTH"):
            # Read before the lock: a slow client holds up only itself.
            environ["wsgi.input"] = io.BytesIO(environ["wsgi.input"].read(int(length)))
        with self._lock:
            body = self._application(environ, hold_reply)
            content = b"".join(body)
            if close := getattr(body, "close", None):
                close()
            if environ["REQUEST_METHOD"] in CHANGING and replies[-1][0].startswith("2"):
                try:
                    self._store.keep(*_place(environ))
                except OSError as error:
                    print(f"could not keep {environ['PATH_INFO']}: {error}", file=sys.stderr)  # noqa: T201 - its log
                    start_response("503 Slow Down", [("Content-Type", "application/xml")])
                    return [b"<Error><Code>SlowDown</Code><Message>could not write to disk</Message></Error>"]
        start_response(*replies[-1])
        return [content]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, _leave)
    serve(application(options.folder), "127.0.0.1", options.port)


def application(folder: Path) -> WSGIApplication:
    """S3 over the objects in the folder."""
    os.environ["MOTO_S3_CUSTOM_ENDPOINTS"] = ""
    os.environ["MOTO_DISABLE_GLOBAL_CORS"] = "true"

    # moto reads its environment when it is imported.
    from moto.core.models import DEFAULT_ACCOUNT_ID
    from moto.moto_server.werkzeug_app import create_backend_app
    from moto.s3.models import s3_backends

    backend = create_backend_app("s3")
    backend.debug = False
    store = Store(folder, s3_backends[DEFAULT_ACCOUNT_ID]["aws"])
    loaded = store.load()
    print(f"{loaded} objects from {folder}", file=sys.stderr)  # noqa: T201 - its log
    return Durable(backend, store)


def serve(application: WSGIApplication, host: str, port: int) -> None:
    """Answer requests until the process ends."""
    from moto.moto_server.werkzeug_app import MotoRequestHandler
    from werkzeug.serving import make_server

    # Without it every request opens a connection: half the speed.
    MotoRequestHandler.protocol_version = "HTTP/1.1"
    MotoRequestHandler.log_request = lambda *_: None  # type: ignore[method-assign]
    server = make_server(host, port, application, threaded=True, request_handler=MotoRequestHandler)
    print(f"listens on {host}:{port}", file=sys.stderr)  # noqa: T201 - its log
    server.serve_forever()


def _place(environ: WSGIEnvironment) -> tuple[str, str | None]:
    """Bucket and key that the request is about."""
    # WSGI hands the path over as Latin-1.
    path = environ["PATH_INFO"].encode("latin-1").decode("utf-8", "replace").lstrip("/")
    bucket, _, key = path.partition("/")
    return bucket, key or None


def _header(held: FakeKey) -> Kept:
    return Kept(
        key=held.name,
        etag=held.etag.strip('"'),
        size=held.contentsize,
        last_modified=held.last_modified,
        metadata={str(name): str(value) for name, value in held.metadata.items()},
        storage_class=held.storage_class,
        checksum_algorithm=held.checksum_algorithm,
        checksum_value=held.checksum_value,
        checksum_type=held.checksum_type,
    )


def _write(path: Path, header: Kept, body: bytes) -> int:
    """Write the file whole and flush it and its folder; returns where the body starts."""
    line = msgspec.json.encode(header) + b"\n"
    if not path.parent.is_dir():
        path.parent.mkdir()
        _flush_folder(path.parent.parent)
    draft = path.with_suffix(".new")
    with draft.open("wb") as file:
        file.write(line)
        file.write(body)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    _flush_folder(path.parent)
    return len(line)


def _flush_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _leave(_signal: int, _frame: FrameType | None) -> None:
    os._exit(0)


if __name__ == "__main__":
    main()
