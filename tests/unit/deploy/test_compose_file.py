"""docker-compose.yml, .env.example and the services' settings say the same of each other."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path, PurePosixPath
from typing import Any, Final

import pytest
from pydantic import AliasChoices
from ruamel.yaml import YAML

from libs.runtime import scratch
from libs.runtime.settings import ServiceSettings

ROOT = Path(__file__).parents[3]
FILES: Final = ("docker-compose.yml", "deploy/compose.minio.yml")
SERVICES = sorted(path.parent.name for path in ROOT.glob("services/*/app.py") if path.parent.name != "cli")
WITH_SETTINGS = [name for name in SERVICES if (ROOT / "services" / name / "settings.py").is_file()]
OURS_TO_SET: Final = {
    "DRP_CONSUMER",  # each container's host name makes its own
    "DRP_DATASETS_DIR",  # needs a mount, too: docs/compose.md
    "DRP_NICENESS",  # between containers it is cpu_shares that counts
    "DRP_S3_REGION",  # our own S3 server has but one
}
"""Settings of a service that docker-compose.yml leaves out on purpose."""


def read(name: str) -> dict[str, Any]:
    found: dict[str, Any] = YAML(typ="safe").load(ROOT / name)
    return found


COMPOSE = read("docker-compose.yml")["services"]
KNOB = re.compile(r"\$\{(DRP_[A-Z0-9_]+):?-([^}]*)\}")
KNOBS = {name: default for file in FILES for name, default in KNOB.findall((ROOT / file).read_text())}
EXAMPLE = dict(re.findall(r"^#(DRP_[A-Z0-9_]+)=(.*)$", (ROOT / ".env.example").read_text(), re.M))


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_is_there_and_asked_whether_it_is_ready(service: str) -> None:
    entry = COMPOSE[service]
    assert entry["command"] == ["python", "-m", f"services.{service}.app"]
    assert entry["healthcheck"]["test"] == ["CMD", "python", "-m", "libs.runtime.readiness"]
    assert entry["depends_on"]["secrets"]["condition"] == "service_completed_successfully"
    assert entry["depends_on"]["redis"]["condition"] == "service_healthy"
    assert entry["environment"][f"DRP_{service.upper()}_URL"] == f"http://{service}:8000"


@pytest.mark.parametrize("service", sorted(set(SERVICES) - {"generator", "console"}))
def test_what_can_have_replicas_has_no_name_and_no_port_of_its_own(service: str) -> None:
    assert not {"container_name", "hostname", "ports"} & COMPOSE[service].keys()


@pytest.mark.parametrize("service", COMPOSE)
def test_every_entry_has_a_version_a_restart_policy_and_no_way_to_more_power(service: str) -> None:
    entry = COMPOSE[service]
    image = entry["image"].partition(":-")[2].rstrip("}")
    assert re.fullmatch(r"[^:]+:.*\d.*", image), image
    assert entry["restart"] == ("no" if service == "secrets" else "unless-stopped")
    assert entry["security_opt"] == ["no-new-privileges:true"]


@pytest.mark.parametrize("service", SERVICES)
def test_temporary_files_lie_on_the_data_volume_and_not_in_memory(service: str) -> None:
    """TMPDIR is a link that the image's entry point makes, in the one folder that can be written to beside volumes."""
    entry = COMPOSE[service]
    link = PurePosixPath(entry["environment"]["TMPDIR"])
    assert entry["read_only"] is True
    assert str(link.parent) in entry["tmpfs"]
    assert f"home:{entry['environment']['DRP_HOME']}" in entry["volumes"]
    assert "entrypoint" not in entry


def test_the_image_s_entry_point_makes_the_folder_for_temporary_files() -> None:
    (said,) = re.findall(r"^ENTRYPOINT (.*)$", (ROOT / "deploy/Dockerfile").read_text(), re.M)
    assert json.loads(said) == ["python", "-m", scratch.__name__]
    assert "TMPDIR" not in COMPOSE["secrets"]["environment"], "the step has no data volume"


def test_ports_are_published_on_the_loopback_only() -> None:
    ports = [port for entry in COMPOSE.values() for port in entry.get("ports", ())]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_every_knob_is_explained_and_every_explained_one_is_a_knob() -> None:
    assert EXAMPLE.keys() == KNOBS.keys()


def test_what_compose_has_as_a_default_the_example_shows() -> None:
    assert {name: EXAMPLE[name] for name, default in KNOBS.items() if default} == {
        name: default for name, default in KNOBS.items() if default
    }


def test_no_secret_has_a_default() -> None:
    secret = [name for name in KNOBS if name.endswith(("_PASSWORD", "_ACCESS_KEY", "_SECRET_KEY"))]
    assert len(secret) == 4
    assert {KNOBS[name] for name in secret} == {EXAMPLE[name] for name in secret} == {""}


@pytest.mark.parametrize("service", WITH_SETTINGS)
def test_every_setting_of_a_service_reaches_its_container(service: str) -> None:
    environment = COMPOSE[service]["environment"]
    reached = {name.removesuffix("_FILE") for name in environment}
    missing = [
        names
        for name, field in settings_of(service).model_fields.items()
        if not reached & (names := variables(name, field.validation_alias)) and not names & OURS_TO_SET
    ]
    assert missing == []


@pytest.mark.parametrize("service", WITH_SETTINGS)
def test_the_example_shows_the_defaults_that_the_code_has(service: str) -> None:
    for name, field in settings_of(service).model_fields.items():
        shown = EXAMPLE.get(f"DRP_{name.upper()}")
        if shown and not KNOBS[f"DRP_{name.upper()}"]:
            assert shown == _written(field.default), name


def settings_of(service: str) -> type[ServiceSettings]:
    module = importlib.import_module(f"services.{service}.settings")
    found: type[ServiceSettings] = getattr(module, f"{service.capitalize()}Settings")
    return found


def variables(name: str, alias: object) -> set[str]:
    if isinstance(alias, AliasChoices):
        return {str(choice) for choice in alias.choices}
    return {f"DRP_{name.upper()}"}


def _written(default: object) -> str:
    return f"{default:g}" if isinstance(default, float) else str(default)
