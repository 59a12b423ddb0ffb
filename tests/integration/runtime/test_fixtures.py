"""The servers that the other tests stand on are what they say."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import psycopg
import pytest
import redis

from libs.adapters.objects import Objects
from libs.testing.servers import RestartableRedis, S3Endpoint
from tests.servers import ObjectStore, a_redis, remove_bucket


def test_a_redis_is_empty_and_keeps_every_acknowledged_write(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        assert client.dbsize() == 0
        assert client.config_get("append*")["appendfsync"] == "always"
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}


def test_a_redis_comes_back_with_its_data_after_a_kill(either_redis: RestartableRedis) -> None:
    with redis.Redis.from_url(either_redis.url) as client:
        client.xadd("orders", {"data": "{}"})
    either_redis.kill()
    either_redis.start()
    with redis.Redis.from_url(either_redis.url) as client:
        assert client.xlen("orders") == 1


def test_a_test_has_a_migrated_database_of_its_own(postgres_url: str) -> None:
    with psycopg.connect(postgres_url) as connection:
        assert connection.execute("SELECT count(*) FROM ops.batches").fetchone() == (0,)
        assert connection.execute("SHOW synchronous_commit").fetchone() == ("on",)


def test_nothing_is_written_beside_the_data_folder(redis_server: RestartableRedis, tmp_path: Path) -> None:
    del redis_server
    assert (tmp_path / "own-redis" / "redis" / "appendonlydir").is_dir()
    assert (tmp_path / "own-redis" / "redis" / "password").stat().st_mode & 0o777 == 0o600


def test_a_redis_of_somebody_s_is_taken_only_if_it_is_empty_and_is_left_so(
    redis_server: RestartableRedis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DRP_TEST_REDIS_URL", f"{redis_server.url.removesuffix('/0')}/4")
    with redis.Redis.from_url(redis_server.url) as theirs:
        theirs.set("theirs", 1)
        for worker in (0, 1):
            with a_redis("urls", tmp_path, binary=None, worker=worker) as url:
                assert url.endswith(f"/{4 + worker}")
                with redis.Redis.from_url(url) as client:
                    client.set("ours", 1)
                assert theirs.info("keyspace").keys() == {"db0", f"db{4 + worker}"}
            assert theirs.info("keyspace").keys() == {"db0"}
        theirs.execute_command("COPY", "theirs", "theirs", "DB", 5)
        with (
            pytest.raises(pytest.UsageError, match=r"database 5 .* holds 1 keys.* like /6"),
            a_redis("urls", tmp_path, binary=None, worker=1),
        ):
            pass
        assert theirs.info("keyspace").keys() == {"db0", "db5"}


async def test_a_bucket_of_a_test_is_removed_with_all_that_is_in_it(s3: S3Endpoint) -> None:
    store = ObjectStore(s3.url, s3.access_key, s3.secret_key, s3.region)
    remove_bucket(store, s3.bucket)
    objects = await Objects.open(s3.url, s3.bucket, s3.access_key, s3.secret_key, s3.region)
    await objects.ensure_bucket()
    await objects.put_once("a/b", b"c", sha256=sha256(b"c").hexdigest(), content_type="text/plain")
    remove_bucket(store, s3.bucket)
    assert await objects.ensure_bucket(), "it was gone"
    assert [head async for head in objects.list("")] == []
    await objects.close()
