"""The embedded S3 server's promise: one at a time, and the disk before the reply."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest

from libs.runtime.embedded.objects_app import Durable, Store


class Scene:
    """An application and a store that write down what happens to them, in order."""

    def __init__(self, status: str = "200 OK") -> None:
        self.status = status
        self.happened: list[str] = []
        self.full = False
        self.inside = 0
        self.most_inside = 0
        self._counting = threading.Lock()

    def application(self, _environ: Any, start_response: Any) -> Iterable[bytes]:
        with self._counting:
            self.inside += 1
            self.most_inside = max(self.most_inside, self.inside)
        time.sleep(0.002)
        start_response(self.status, [])
        with self._counting:
            self.inside -= 1
        return [b"body"]

    def keep(self, bucket: str, key: str | None) -> None:
        self.happened.append(f"kept {bucket} {key}")
        if self.full:
            raise OSError("no space left on device")

    def start_response(self, status: str, _headers: object) -> None:
        self.happened.append(f"replied {status}")

    def ask(self, method: str, path: str) -> bytes:
        environ = {
            "REQUEST_METHOD": method,
            "PATH_INFO": path,
            "CONTENT_LENGTH": "3",
            "wsgi.input": io.BytesIO(b"abc"),
        }
        durable = Durable(cast("Any", self.application), cast("Store", self))
        self.durable = getattr(self, "durable", durable)
        return b"".join(self.durable(cast("Any", environ), cast("Any", self.start_response)))


def test_the_disk_comes_before_the_reply() -> None:
    scene = Scene()
    assert scene.ask("PUT", "/drp/raw/a b") == b"body"
    assert scene.happened == ["kept drp raw/a b", "replied 200 OK"]


@pytest.mark.parametrize(("method", "status"), [("GET", "200 OK"), ("PUT", "412 Precondition Failed")])
def test_what_changes_nothing_touches_no_disk(method: str, status: str) -> None:
    scene = Scene(status)
    scene.ask(method, "/drp/key")
    assert scene.happened == [f"replied {status}"]


def test_what_the_disk_refuses_is_not_acknowledged() -> None:
    scene = Scene()
    scene.full = True
    assert b"could not write" in scene.ask("PUT", "/drp/key")
    assert scene.happened == ["kept drp key", "replied 503 Slow Down"]


def test_one_request_at_a_time_is_decided() -> None:
    scene = Scene()
    scene.ask("GET", "/")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: scene.ask("PUT", "/drp/key"), range(16)))
    assert scene.most_inside == 1
