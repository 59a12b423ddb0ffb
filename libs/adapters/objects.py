"""The one door to S3. Objects are put once: under a key stands either nothing or its one content, for good.

A put whose reply is lost is asked again, and settled by the hash of what is found. Importing this imports no
aioboto3; opening does, which takes half a second.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import IO, TYPE_CHECKING, Any, Final, Literal, Protocol
from urllib.parse import urlsplit

from libs.errors import DrpError, Permanent, Transient

if TYPE_CHECKING:
    from types_aiobotocore_s3.client import S3Client

__all__ = ["BucketMissing", "DifferentContent", "Head", "ObjectMissing", "Objects", "Put", "S3Settings"]

log = logging.getLogger("drp.objects")

PIECE: Final = 256 * 1024
"""Bytes handed out at a time when an object is streamed."""

_TRIES: Final = 4
_FIRST_PAUSE: Final = 0.2
_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})
_PASSING_CODES: Final = frozenset(
    {
        "SlowDown",
        "RequestTimeout",
        "InternalError",
        "ServiceUnavailable",
        "Throttling",
        "ThrottlingException",
        "TooManyRequests",
        "RequestLimitExceeded",
        "OperationAborted",
        "ConditionalRequestConflict",
    }
)
_SHA256: Final = "sha256"
_CONTENT: Final = "content"


class S3Settings(Protocol):
    """What a service's or a command's settings say of the object store."""

    @property
    def s3_endpoint_url(self) -> str | None: ...
    @property
    def s3_bucket(self) -> str: ...
    @property
    def s3_access_key(self) -> str | None: ...
    @property
    def s3_secret_key(self) -> str | None: ...
    @property
    def s3_region(self) -> str: ...


class ObjectMissing(Permanent):
    """There is no object under the key."""


class BucketMissing(Permanent):
    """There is no such bucket."""


class DifferentContent(Permanent):
    """The key holds another content than the one to be put."""


@dataclass(frozen=True, slots=True)
class Put:
    """What stands under the key after a put: ours, or an equal one that stood there before.

    sha256 and bytes are of what stands there. They differ from ours only if both have the same `content`.
    """

    outcome: Literal["stored", "already there"]
    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Head:
    """An object without its body. sha256 and content are what its writer said of it, None if nothing."""

    key: str
    bytes: int
    modified: datetime
    sha256: str | None = None
    content: str | None = None


class Objects:
    """One bucket, through one client for the life of the process.

    Every method raises Transient (no connection, time is up, the server is busy or broken) or Permanent (it
    said no), never the driver's errors.
    """

    def __init__(self, client: S3Client, doors: AsyncExitStack, *, bucket: str, endpoint: str) -> None:
        self.bucket = bucket
        self.endpoint = endpoint
        self._client = client
        self._doors = doors

    @classmethod
    async def open(
        cls,
        endpoint_url: str | None,
        bucket: str,
        access_key: str | None,
        secret_key: str | None,
        region: str,
        *,
        patience: float = 60,
    ) -> Objects:
        """Make the client; no server is asked yet.

        Args:
            endpoint_url: None is Amazon's own.
            access_key: None leaves credentials to the usual places of the AWS tools.
            patience: seconds without a byte after which a reply counts as lost.

        Raises:
            Permanent: the endpoint is no URL.
        """
        aioboto3, config = await asyncio.to_thread(_load)
        local = endpoint_url is not None and urlsplit(endpoint_url).hostname in _LOOPBACK
        settings = config(
            # Retries are ours: only we know how to settle a lost reply.
            retries={"total_max_attempts": 1},
            connect_timeout=min(5, patience),
            read_timeout=patience,
            max_pool_connections=10,
            s3={"addressing_style": "auto" if endpoint_url is None else "path"},
            # Checksums in trailers are more than other servers than Amazon's understand.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            proxies={} if local else None,
        )
        doors = AsyncExitStack()
        with _translated("could not open the object store"):
            session = aioboto3.Session(
                aws_access_key_id=access_key, aws_secret_access_key=secret_key, region_name=region
            )
            client = await doors.enter_async_context(
                session.client("s3", endpoint_url=endpoint_url, config=settings)
            )
        return cls(client, doors, bucket=bucket, endpoint=endpoint_url or f"s3 in {region}")

    @classmethod
    async def open_from(cls, settings: S3Settings) -> Objects:
        """As open, with what the settings say.

        Raises:
            Permanent: no object store is configured.
        """
        if not settings.s3_endpoint_url and not settings.s3_access_key:
            raise Permanent(
                "no object store is configured",
                why="DRP_S3_ENDPOINT_URL is not set",
                fix="drp up, which sets it; a server of yours; or DRP_ARCHIVE=off",
            )
        return await cls.open(
            settings.s3_endpoint_url,
            settings.s3_bucket,
            settings.s3_access_key,
            settings.s3_secret_key,
            settings.s3_region,
        )

    async def close(self) -> None:
        await self._doors.aclose()

    async def ensure_bucket(self) -> bool:
        """Make the bucket if it isn't there; True if it was made."""
        try:
            with self._asking("the bucket"):
                await self._client.head_bucket(Bucket=self.bucket)
        except (BucketMissing, ObjectMissing):
            pass
        else:
            return False
        region = self._client.meta.region_name
        where: Any = {} if region == "us-east-1" else {"LocationConstraint": region}
        try:
            with self._asking("making the bucket"):
                await self._client.create_bucket(
                    Bucket=self.bucket, **({"CreateBucketConfiguration": where} if where else {})
                )
        except _AlreadyOurs:
            return False
        return True

    async def put_once(
        self,
        key: str,
        body: bytes | IO[bytes],
        *,
        sha256: str,
        content_type: str,
        content: str | None = None,
    ) -> Put:
        """Put the body unless the key holds something; what it holds then must be the same.

        Args:
            body: bytes, or a seekable file that is sent from its beginning to its end.
            sha256: of the body, hexadecimal.
            content: names what the body says, where other bytes can say the same (a compressor of another
                version wrote them): equal content counts as the same.

        Raises:
            DifferentContent: the key holds something else; it is left as it is.
        """
        metadata = {_SHA256: sha256} if content is None else {_SHA256: sha256, _CONTENT: content}
        pause = _FIRST_PAUSE
        for attempt in range(1, _TRIES + 1):
            try:
                size = await self._put(key, body, metadata, content_type)
            except _Taken:
                return await self._settle(key, sha256, content)
            except Transient as error:
                # Whether it was stored is not known: asking again with If-None-Match tells.
                if attempt == _TRIES:
                    raise
                log.info("putting %s again (%d): %s", key, attempt, error)
            else:
                return Put("stored", sha256, size)
            await asyncio.sleep(pause)
            pause *= 2
        raise AssertionError("the last try returns or raises")

    async def head(self, key: str) -> Head | None:
        """What the store says of an object; None if there is none."""
        try:
            with self._asking(key):
                found = await self._client.head_object(Bucket=self.bucket, Key=key)
        except ObjectMissing:
            return None
        said = found.get("Metadata", {})
        return Head(key, found["ContentLength"], found["LastModified"], said.get(_SHA256), said.get(_CONTENT))

    async def get(self, key: str) -> bytes:
        """The whole object.

        Raises:
            ObjectMissing: there is none.
        """
        return b"".join([piece async for piece in self.stream(key)])

    async def stream(self, key: str) -> AsyncGenerator[bytes, None]:
        """The object in pieces.

        Raises:
            ObjectMissing: there is none.
            Transient: also when the stream breaks off; what came before it is a part only.
        """
        with self._asking(key):
            found = await self._client.get_object(Bucket=self.bucket, Key=key)
            body, left = found["Body"], found["ContentLength"]
            async with body:
                async for piece in body.iter_chunks(PIECE):
                    left -= len(piece)
                    yield piece
        if left:
            raise Transient(f"{key} broke off", why=f"{left} bytes are missing")

    async def list(self, prefix: str, *, page_size: int = 1_000) -> AsyncIterator[Head]:
        """The objects whose key begins with prefix, in the order of their keys, page by page."""
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket, Prefix=prefix, PaginationConfig={"PageSize": page_size}
        )
        with self._asking(f"the objects under {prefix}"):
            async for page in pages:
                for each in page.get("Contents", ()):
                    yield Head(each["Key"], each["Size"], each["LastModified"])

    async def _put(
        self, key: str, body: bytes | IO[bytes], metadata: dict[str, str], content_type: str
    ) -> int:
        size = len(body) if isinstance(body, bytes) else body.seek(0, os.SEEK_END)
        if not isinstance(body, bytes):
            body.seek(0)
        with self._asking(key):
            await self._client.put_object(
                Bucket=self.bucket,
                Key=key,
                Body=body,
                ContentLength=size,
                ContentType=content_type,
                Metadata=metadata,
                IfNoneMatch="*",
            )
        return size

    async def _settle(self, key: str, sha256: str, content: str | None) -> Put:
        """Whether what the key holds is what was to be put there."""
        held = await self.head(key)
        if held is None:
            raise Transient(f"{key} was there and is gone")
        found = held.sha256 or await self._hash(key)
        if found == sha256 or (content is not None and content == held.content):
            return Put("already there", found, held.bytes)
        raise DifferentContent(
            f"{key} holds another content",
            why=f"sha256 {found}, not {sha256}; nothing is overwritten",
            fix="drp archive verify",
        )

    async def _hash(self, key: str) -> str:
        digest = hashlib.sha256()
        async for piece in self.stream(key):
            digest.update(piece)
        return digest.hexdigest()

    @contextmanager
    def _asking(self, what: str) -> Iterator[None]:
        with _translated(f"{what} in bucket {self.bucket} of {self.endpoint}"):
            yield


class _Taken(Permanent):
    """If-None-Match: the key holds something."""


class _AlreadyOurs(Permanent):
    """The bucket was made by somebody else meanwhile."""


def _load() -> tuple[Any, Any]:
    import aioboto3
    from aiobotocore.config import AioConfig

    return aioboto3, AioConfig


@contextmanager
def _translated(what: str) -> Iterator[None]:
    from aiohttp import ClientError as HttpError
    from botocore import exceptions as refused

    passing = (
        refused.ConnectionError,
        refused.HTTPClientError,
        refused.ResponseStreamingError,
        refused.IncompleteReadError,
        HttpError,
        TimeoutError,
        ConnectionError,
    )
    try:
        yield
    except refused.ClientError as error:
        raise _named(what, error.response) from error
    except refused.SSLError as error:
        raise Permanent(what, why=str(error), fix="a certificate that this machine trusts") from error
    except passing as error:
        raise Transient(what, why=str(error) or type(error).__name__) from error
    except (refused.BotoCoreError, ValueError) as error:
        raise Permanent(what, why=str(error), fix="DRP_S3_* settings: drp config show") from error


def _named(what: str, response: Any) -> DrpError:
    code = str(response.get("Error", {}).get("Code", ""))
    message = str(response.get("Error", {}).get("Message", ""))
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    why = f"{code} {message}".strip()
    if status in {408, 429} or status >= 500 or code in _PASSING_CODES:
        return Transient(what, why=why)
    if status == 412 or code == "PreconditionFailed":
        return _Taken(what, why=why)
    if code in {"BucketAlreadyOwnedByYou", "BucketAlreadyExists"}:
        return _AlreadyOurs(what, why=why)
    if code == "NoSuchBucket":
        return BucketMissing(what, why=why, fix="make the bucket again, or set DRP_S3_BUCKET")
    if status == 404:
        return ObjectMissing(f"there is no {what}", why=why, fix="drp archive verify")
    if status in {401, 403}:
        fix = "DRP_S3_ACCESS_KEY and DRP_S3_SECRET_KEY of a user who may read and write the bucket"
        return Permanent(what, why=why, fix=fix)
    return Permanent(what, why=why)
