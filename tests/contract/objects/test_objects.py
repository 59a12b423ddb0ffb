"""What the archive needs of an S3 server, whichever it is."""

from __future__ import annotations

import asyncio
import hashlib
import io
import tempfile

import pytest

from libs.adapters.objects import BucketMissing, DifferentContent, ObjectMissing, Objects, Put
from libs.errors import Permanent, Transient
from libs.testing.servers import S3Endpoint
from tests.contract.objects.lossy import LossyProxy

BODY = b"every order is accounted for\n"


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


async def put(objects: Objects, key: str, body: bytes = BODY, content: str | None = None) -> Put:
    return await objects.put_once(
        key, body, sha256=sha256(body), content_type="application/octet-stream", content=content
    )


async def through(proxy: LossyProxy, endpoint: S3Endpoint) -> Objects:
    return await Objects.open(
        proxy.url, endpoint.bucket, endpoint.access_key, endpoint.secret_key, endpoint.region, patience=5
    )


async def test_what_was_put_is_there(objects: Objects) -> None:
    assert await put(objects, "a/b.txt") == Put("stored", sha256(BODY), len(BODY))

    assert await objects.get("a/b.txt") == BODY
    head = await objects.head("a/b.txt")
    assert head is not None
    assert (head.bytes, head.sha256, head.content) == (len(BODY), sha256(BODY), None)


async def test_the_bucket_is_made_once(objects: Objects) -> None:
    assert await objects.ensure_bucket() is False


async def test_putting_the_same_again_changes_nothing(objects: Objects) -> None:
    await put(objects, "a")

    assert (await put(objects, "a")).outcome == "already there"
    assert await objects.get("a") == BODY


async def test_another_content_under_the_key_is_refused_and_left_as_it_is(objects: Objects) -> None:
    await put(objects, "a")

    with pytest.raises(DifferentContent, match="holds another content"):
        await put(objects, "a", b"something else")
    assert await objects.get("a") == BODY


async def test_other_bytes_that_say_the_same_are_the_same(objects: Objects) -> None:
    await put(objects, "a", b"compressed by one", content="lines:1")

    stands = await put(objects, "a", b"compressed by another", content="lines:1")

    assert stands == Put("already there", sha256(b"compressed by one"), len(b"compressed by one"))


async def test_of_many_that_put_at_once_one_wins_and_the_others_see_it(objects: Objects) -> None:
    outcomes = await asyncio.gather(*(put(objects, "a") for _ in range(8)))

    assert sorted(each.outcome for each in outcomes) == ["already there"] * 7 + ["stored"]


async def test_a_file_is_sent_whole_wherever_it_stood(objects: Objects) -> None:
    body = bytes(range(256)) * 8_000
    with tempfile.TemporaryFile() as file:
        file.write(body)
        stored = await objects.put_once("big", file, sha256=sha256(body), content_type="x/y")
        file.seek(100)
        again = await objects.put_once("big", file, sha256=sha256(body), content_type="x/y")

    assert (stored.outcome, again.outcome) == ("stored", "already there")
    pieces = [piece async for piece in objects.stream("big")]
    assert len(pieces) > 1
    assert b"".join(pieces) == body


async def test_an_empty_body_is_an_object(objects: Objects) -> None:
    await objects.put_once("empty", io.BytesIO(b""), sha256=sha256(b""), content_type="x/y")

    assert await objects.get("empty") == b""


async def test_a_lost_reply_is_settled_by_the_hash(objects: Objects, endpoint: S3Endpoint) -> None:
    async with LossyProxy(endpoint.url) as proxy:
        client = await through(proxy, endpoint)
        proxy.lose_replies = 1
        outcome = await put(client, "a")
        await client.close()

    assert proxy.lost == 1
    assert outcome.outcome == "already there"
    assert await objects.get("a") == BODY


async def test_when_no_reply_comes_at_all_it_is_for_later(objects: Objects, endpoint: S3Endpoint) -> None:
    async with LossyProxy(endpoint.url) as proxy:
        client = await through(proxy, endpoint)
        proxy.lose_replies = 100
        with pytest.raises(Transient):
            await put(client, "a")
        proxy.lose_replies = 0
        assert (await put(client, "a")).outcome == "already there"
        await client.close()

    assert await objects.get("a") == BODY


async def test_what_is_not_there_is_said(objects: Objects) -> None:
    assert await objects.head("nothing") is None
    with pytest.raises(ObjectMissing):
        await objects.get("nothing")


async def test_a_listing_goes_on_over_its_pages(objects: Objects) -> None:
    keys = [f"many/{number}" for number in range(7)]
    for key in [*keys, "other"]:
        await put(objects, key)

    assert [each.key async for each in objects.list("many/", page_size=3)] == keys
    assert [each.key async for each in objects.list("none/")] == []


async def test_a_bucket_that_is_missing_is_said(endpoint: S3Endpoint) -> None:
    nowhere = await Objects.open(
        endpoint.url, "no-such-bucket-here", endpoint.access_key, endpoint.secret_key, endpoint.region
    )
    with pytest.raises(BucketMissing, match="no-such-bucket-here"):
        await put(nowhere, "a")
    await nowhere.close()


async def test_a_server_that_is_away_is_for_later(unused_tcp_port: int) -> None:
    nobody = await Objects.open(f"http://127.0.0.1:{unused_tcp_port}", "drp", "a", "b", "us-east-1")
    with pytest.raises(Transient):
        await nobody.head("a")
    with pytest.raises(Transient):
        await nobody.ensure_bucket()
    await nobody.close()


async def test_an_endpoint_that_is_no_url_is_refused() -> None:
    with pytest.raises(Permanent):
        await Objects.open("not a url", "drp", "a", "b", "us-east-1")
