"""The secrets of the deployed platform: made once, given ones win, wrong and missing ones are refused and named."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.compose.stack import Said, Stack, engine

pytestmark = pytest.mark.heavy

FOLDER = "/run/drp-secrets"
GIVEN = "given-by-the-operator"


@pytest.fixture(scope="module")
def stack(new_stack: Callable[..., Stack]) -> Stack:
    """Built, and only its stores started."""
    made = new_stack()
    made.compose("up", "-d", "--build", "redis", "postgres", timeout=900)
    return made


def step(stack: Stack, **settings: str) -> Said:
    """The one-shot step once more."""
    return stack.compose("run", "--rm", "-T", "secrets", settings=settings, expect=None)


def held(stack: Stack, name: str) -> str:
    return stack.compose("exec", "-T", "redis", "cat", f"{FOLDER}/{name}").stdout.strip()


def ingestor(stack: Stack, **environment: str) -> Said:
    """An ingestor that cannot go on: it ends, and says why."""
    told = [part for name, value in environment.items() for part in ("-e", f"{name}={value}")]
    return stack.compose("run", "--rm", "-T", "--no-deps", *told, "ingestor", expect=1)


def test_they_are_made_once(stack: Stack) -> None:
    made = held(stack, "redis_password")
    again = step(stack)

    assert again.returncode == 0
    assert "every secret is there already" in again.stdout + again.stderr
    assert len(made) == 48
    assert held(stack, "redis_password") == made


def test_another_password_than_the_database_has_is_refused(stack: Stack) -> None:
    before = held(stack, "postgres_url")
    said = step(stack, DRP_POSTGRES_PASSWORD=GIVEN)

    assert said.returncode == 1
    assert (
        "DRP_POSTGRES_PASSWORD is not the password that the database was made with"
        in said.stdout + said.stderr
    )
    assert held(stack, "postgres_url") == before


def test_a_database_that_was_told_its_new_password_has_it_taken(stack: Stack) -> None:
    changed = f"ALTER ROLE drp PASSWORD '{GIVEN}'"
    stack.postgres(changed)
    again = ("python", "-m", "libs.runtime.made_secrets", FOLDER, "--replace")
    stack.compose("run", "--rm", "-T", "secrets", *again, settings={"DRP_POSTGRES_PASSWORD": GIVEN})

    assert GIVEN in held(stack, "postgres_url")
    assert stack.postgres("SELECT 1") == "1"


def test_one_that_is_too_short_starts_nothing(stack: Stack) -> None:
    said = stack.compose("up", "-d", settings={"DRP_REDIS_PASSWORD": "short"}, expect=1)
    logs = stack.compose("logs", "secrets")

    assert "secrets" in said.stdout + said.stderr
    assert "DRP_REDIS_PASSWORD cannot be used: it has 5 characters" in logs.stdout + logs.stderr
    assert stack.containers("ingestor") == []


def test_redis_knows_nobody_without_its_password(stack: Stack) -> None:
    said = stack.compose("exec", "-T", "redis", "redis-cli", "ping", expect=None)
    assert "NOAUTH" in said.stdout + said.stderr


def test_a_given_one_wins_and_redis_follows(stack: Stack) -> None:
    stack.compose("up", "-d", "--force-recreate", "redis", settings={"DRP_REDIS_PASSWORD": GIVEN})

    assert held(stack, "redis_url") == f"redis://default:{GIVEN}@redis:6379/0"
    asked = stack.compose("exec", "-T", "-e", f"REDISCLI_AUTH={GIVEN}", "redis", "redis-cli", "ping")
    assert asked.stdout.strip() == "PONG"


@pytest.mark.parametrize(
    ("setting", "url"),
    [
        ("DRP_REDIS_URL", "redis://default:not-this-one@redis:6379/0"),
        ("DRP_POSTGRES_URL", "postgresql://drp:not-this-one@postgres:5432/drp"),
    ],
)
def test_a_wrong_one_is_refused_and_not_repeated(stack: Stack, setting: str, url: str) -> None:
    said = ingestor(stack, **{setting: url})
    told = said.stdout + said.stderr
    assert "ingestor cannot go on" in told
    assert "password" in told.lower()
    assert "not-this-one" not in told


def test_a_missing_one_is_named(stack: Stack) -> None:
    said = ingestor(stack, DRP_REDIS_URL_FILE="/run/drp-secrets/nowhere")
    assert "DRP_REDIS_URL_FILE cannot be read" in said.stdout + said.stderr


def test_minio_takes_the_place_of_rustfs_with_the_same_keys(stack: Stack) -> None:
    files = ("docker-compose.yml", "deploy/compose.minio.yml")
    stack.compose("up", "-d", "rustfs", files=files)
    (container,) = stack.containers("rustfs")
    found = stack.inspect(container)

    assert found["Config"]["Cmd"] == ["server", "/data"]
    assert f"MINIO_ROOT_USER_FILE={FOLDER}/s3_access_key" in found["Config"]["Env"]
    mounts = {mount["Destination"]: mount.get("Name", "") for mount in found["Mounts"]}
    assert mounts["/data"] == f"{stack.project}_minio"
    engine("exec", container, "mc", "ready", "local")
    stack.compose("down", "--volumes", files=files)
