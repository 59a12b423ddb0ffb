"""The servers that the suite is held against: the embedded one, and any that DRP_TEST_S3_ENDPOINT_URL names."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from libs.adapters.objects import Objects
from libs.testing.servers import S3Endpoint


def _given() -> S3Endpoint | None:
    """A server of the developer's; only its address must be given."""
    url = os.environ.get("DRP_TEST_S3_ENDPOINT_URL")
    if url is None:
        return None
    return S3Endpoint(
        url=url,
        bucket=f"drp-test-{uuid4().hex[:12]}",
        access_key=os.environ.get("DRP_TEST_S3_ACCESS_KEY", "drp"),
        secret_key=os.environ.get("DRP_TEST_S3_SECRET_KEY", "drp-secret"),
        region=os.environ.get("DRP_TEST_S3_REGION", "us-east-1"),
    )


@pytest.fixture(params=["embedded"] if _given() is None else ["embedded", "given"])
def endpoint(request: pytest.FixtureRequest, s3: S3Endpoint) -> S3Endpoint:
    given = _given()
    return given if request.param == "given" and given is not None else s3


@pytest.fixture
async def objects(endpoint: S3Endpoint) -> AsyncIterator[Objects]:
    """A bucket of the test's own, made."""
    opened = await Objects.open(
        endpoint.url, endpoint.bucket, endpoint.access_key, endpoint.secret_key, endpoint.region
    )
    await opened.ensure_bucket()
    yield opened
    await opened.close()
