"""The servers that the other tests stand on are what they say."""

from __future__ import annotations

from pathlib import Path

import psycopg
import redis

from libs.testing.servers import RestartableRedis


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
