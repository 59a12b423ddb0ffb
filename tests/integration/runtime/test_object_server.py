"""The embedded S3 server keeps what it acknowledged, and decides put-once once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3  # type: ignore[import-untyped]
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from libs.runtime.embedded.objects import ObjectServer
from libs.runtime.processes import free_port

KEY = "raw/orders/ingest_date=2026-01-01/batch_id=ü/../x.jsonl.gz"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("objects")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[ObjectServer]:
    server = ObjectServer(folder, free_port())
    server.start()
    server.wait_ready()
    yield server
    server.stop()


@pytest.fixture
def client(server: ObjectServer) -> Iterator[Any]:
    """Of an S3 with one empty bucket, `drp`."""
    client = client_of(server)
    for bucket in client.list_buckets()["Buckets"]:
        for found in client.list_objects_v2(Bucket=bucket["Name"]).get("Contents", []):
            client.delete_object(Bucket=bucket["Name"], Key=found["Key"])
        client.delete_bucket(Bucket=bucket["Name"])
    client.create_bucket(Bucket="drp")
    yield client
    client.close()


def client_of(server: ObjectServer) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=server.url,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        region_name=server.region,
        config=Config(retries={"max_attempts": 1}, max_pool_connections=20),
    )


def killed_and_started_again(server: ObjectServer) -> None:
    server.kill()
    server.start()
    server.wait_ready()


def code_of(call: Callable[[], object]) -> str:
    with pytest.raises(ClientError) as caught:
        call()
    return str(caught.value.response["Error"]["Code"])


def test_an_object_outlives_a_kill_with_all_that_is_known_of_it(server: ObjectServer, client: Any) -> None:
    body = bytes(range(256)) * 5000
    put = client.put_object(
        Bucket="drp",
        Key=KEY,
        Body=body,
        Metadata={"sha256": "abc"},
        ContentType="application/gzip",
        IfNoneMatch="*",
    )
    before = client.head_object(Bucket="drp", Key=KEY)
    killed_and_started_again(server)
    after = client.get_object(Bucket="drp", Key=KEY)
    assert after["Body"].read() == body
    assert after["ETag"] == put["ETag"] == before["ETag"]
    assert after["Metadata"] == {"sha256": "abc"}
    assert after["ContentType"] == "application/gzip"
    assert after["LastModified"] == before["LastModified"]
    assert after["ContentLength"] == len(body)


def test_a_part_of_an_object_can_be_read_after_a_kill(server: ObjectServer, client: Any) -> None:
    client.put_object(Bucket="drp", Key="k", Body=b"0123456789")
    killed_and_started_again(server)
    assert client.get_object(Bucket="drp", Key="k", Range="bytes=2-4")["Body"].read() == b"234"


def test_put_once_holds_after_a_kill(server: ObjectServer, client: Any) -> None:
    client.put_object(Bucket="drp", Key=KEY, Body=b"first", IfNoneMatch="*")
    killed_and_started_again(server)
    again = code_of(lambda: client.put_object(Bucket="drp", Key=KEY, Body=b"second", IfNoneMatch="*"))
    assert again == "PreconditionFailed"
    assert client.get_object(Bucket="drp", Key=KEY)["Body"].read() == b"first"


def test_of_many_that_put_at_once_one_wins(client: Any) -> None:
    def put(number: int) -> str:
        try:
            client.put_object(Bucket="drp", Key=KEY, Body=str(number).encode(), IfNoneMatch="*")
        except ClientError as error:
            return str(error.response["Error"]["Code"])
        return "won"

    with ThreadPoolExecutor(16) as pool:
        outcomes = list(pool.map(put, range(48)))
    assert sorted(outcomes) == ["PreconditionFailed"] * 47 + ["won"]
    winner = str(outcomes.index("won")).encode()
    assert client.get_object(Bucket="drp", Key=KEY)["Body"].read() == winner


def test_an_overwritten_and_a_deleted_object_stay_so(server: ObjectServer, client: Any) -> None:
    client.put_object(Bucket="drp", Key="a", Body=b"old")
    client.put_object(Bucket="drp", Key="a", Body=b"new")
    client.put_object(Bucket="drp", Key="a/b", Body=b"gone")
    client.delete_object(Bucket="drp", Key="a/b")
    for key in ("c", "d"):
        client.put_object(Bucket="drp", Key=key, Body=b"")
    client.delete_objects(Bucket="drp", Delete={"Objects": [{"Key": "c"}]})
    killed_and_started_again(server)
    assert [found["Key"] for found in client.list_objects_v2(Bucket="drp")["Contents"]] == ["a", "d"]
    assert client.get_object(Bucket="drp", Key="a")["Body"].read() == b"new"
    assert client.get_object(Bucket="drp", Key="d")["Body"].read() == b""


def test_a_copy_and_a_multipart_upload_are_objects_like_others(server: ObjectServer, client: Any) -> None:
    part = b"x" * (5 * 1024 * 1024)
    upload = client.create_multipart_upload(Bucket="drp", Key="big")["UploadId"]
    tags = [
        client.upload_part(Bucket="drp", Key="big", UploadId=upload, PartNumber=n, Body=body)["ETag"]
        for n, body in ((1, part), (2, b"end"))
    ]
    parts = [{"PartNumber": n, "ETag": tag} for n, tag in enumerate(tags, 1)]
    done = client.complete_multipart_upload(
        Bucket="drp", Key="big", UploadId=upload, MultipartUpload={"Parts": parts}
    )
    client.copy_object(Bucket="drp", Key="copy", CopySource={"Bucket": "drp", "Key": "big"})
    killed_and_started_again(server)
    found = client.get_object(Bucket="drp", Key="big")
    assert found["ETag"] == done["ETag"]
    assert found["Body"].read() == part + b"end"
    assert client.get_object(Bucket="drp", Key="copy")["Body"].read() == part + b"end"


def test_a_deleted_bucket_is_gone_and_an_empty_one_is_not(server: ObjectServer, client: Any) -> None:
    client.create_bucket(Bucket="empty")
    client.create_bucket(Bucket="gone")
    client.put_object(Bucket="gone", Key="k", Body=b"1")
    client.delete_object(Bucket="gone", Key="k")
    client.delete_bucket(Bucket="gone")
    killed_and_started_again(server)
    assert [bucket["Name"] for bucket in client.list_buckets()["Buckets"]] == ["drp", "empty"]


def test_a_disk_that_takes_nothing_acknowledges_nothing(client: Any, folder: Path) -> None:
    client.put_object(Bucket="drp", Key="here", Body=b"1")
    bucket = folder / "objects" / "drp"
    # A file where the object's folder must be: no right of root's helps against that.
    for first in range(256):
        if not (place := bucket / f"{first:02x}").exists():
            place.write_text("")
    assert code_of(lambda: client.put_object(Bucket="drp", Key="lost", Body=b"2")) == "SlowDown"
    assert [found["Key"] for found in client.list_objects_v2(Bucket="drp")["Contents"]] == ["here"]
