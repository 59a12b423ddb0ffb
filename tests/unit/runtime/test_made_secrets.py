"""The secrets of a deployed platform: given ones win, the rest is made once, and what cannot work is refused."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import pytest

from libs.errors import Permanent
from libs.runtime.made_secrets import SecretSettings, main, make_secrets

GIVEN = "given-by-somebody"
NAMES = ("redis_password", "postgres_password", "s3_access_key", "s3_secret_key")


@pytest.fixture(autouse=True)
def _none_given(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*NAMES, "redis_url"):
        monkeypatch.delenv(f"DRP_{name.upper()}", raising=False)


def held(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_what_is_not_given_is_made_and_stays(tmp_path: Path) -> None:
    told = make_secrets(tmp_path, SecretSettings())
    first = held(tmp_path)

    assert [line.partition(":")[0] for line in told] == list(NAMES)
    assert len({first[name] for name in NAMES}) == 4
    assert all(len(first[name]) >= 20 for name in NAMES)
    assert make_secrets(tmp_path, SecretSettings()) == []
    assert held(tmp_path) == first


def test_two_platforms_have_nothing_in_common(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        make_secrets(tmp_path / name, SecretSettings())
    assert not set(held(tmp_path / "a").values()) & set(held(tmp_path / "b").values())


def test_servers_and_services_are_told_the_same(tmp_path: Path) -> None:
    make_secrets(tmp_path, SecretSettings(redis_password="with/and=and+inside"))
    files = held(tmp_path)

    redis, postgres = urlsplit(files["redis_url"]), urlsplit(files["postgres_url"])
    assert files["redis.conf"] == 'requirepass "with/and=and+inside"\n'
    assert redis.password == "with%2Fand%3Dand%2Binside"
    assert (redis.hostname, redis.port) == ("redis", 6379)
    assert postgres.password == files["postgres_password"]
    assert (postgres.username, postgres.path) == ("drp", "/drp")


def test_a_given_one_wins_also_later(tmp_path: Path) -> None:
    make_secrets(tmp_path, SecretSettings())
    before = held(tmp_path)
    told = make_secrets(tmp_path, SecretSettings(redis_password=GIVEN))
    after = held(tmp_path)

    assert told == ["redis_password: given anew"]
    assert after["redis_password"] == GIVEN
    assert GIVEN in after["redis_url"]
    assert after["postgres_url"] == before["postgres_url"]


def test_what_is_told_holds_no_secret(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 0
    said = "".join(capsys.readouterr())
    assert not [name for name in NAMES if (tmp_path / name).read_text() in said]


def test_another_password_than_the_database_has_is_refused(tmp_path: Path) -> None:
    make_secrets(tmp_path, SecretSettings())
    before = held(tmp_path)

    with pytest.raises(Permanent, match="DRP_POSTGRES_PASSWORD is not the password"):
        make_secrets(tmp_path, SecretSettings(postgres_password=GIVEN))
    assert held(tmp_path) == before


def test_a_database_that_was_told_its_new_password_has_it_taken(tmp_path: Path) -> None:
    make_secrets(tmp_path, SecretSettings())
    make_secrets(tmp_path, SecretSettings(postgres_password=GIVEN), replace=True)
    assert GIVEN in held(tmp_path)["postgres_url"]


@pytest.mark.parametrize("value", ["too-short", 'quoted"quoted"', "with a space in it", "line\nbreak-in-it"])
def test_one_that_cannot_work_is_refused_and_not_repeated(tmp_path: Path, value: str) -> None:
    with pytest.raises(Permanent, match="DRP_S3_SECRET_KEY cannot be used") as refused:
        make_secrets(tmp_path, SecretSettings(s3_secret_key=value))
    assert value not in str(refused.value)
    assert held(tmp_path) == {}


def test_a_refusal_is_said_and_ends_the_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DRP_REDIS_PASSWORD", "short")
    assert main([str(tmp_path)]) == 1
    assert "no secrets: DRP_REDIS_PASSWORD cannot be used" in capsys.readouterr().err


def test_everybody_who_is_given_the_folder_may_read(tmp_path: Path) -> None:
    make_secrets(tmp_path, SecretSettings())
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o444}
