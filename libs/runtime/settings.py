"""What every process of the platform is told by its environment. A room adds its own in a subclass.

A DRP_ name wins over the standard one of other tools (AWS_*, OTEL_*). Any setting NAME may instead be given
as NAME_FILE: the file's content, without the white space around it. An empty variable counts as not set.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any, Literal

from pydantic import AliasChoices, Field, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from libs.errors import Permanent

__all__ = ["ServiceSettings"]

PREFIX = "DRP_"


def _standard(name: str, *others: str) -> AliasChoices:
    return AliasChoices(PREFIX + name, *others)


class ServiceSettings(BaseSettings):
    """Read from the environment when it is made.

    Raises:
        Permanent: a setting is wrong; names the variable and what it must be.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, extra="ignore", populate_by_name=True, frozen=True
    )

    home: Path = Path(".drp")
    redis_url: str | None = Field(default=None, repr=False)
    postgres_url: str | None = Field(default=None, repr=False)

    s3_endpoint_url: str | None = Field(
        default=None,
        validation_alias=_standard("S3_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
    )
    s3_bucket: str = "drp"
    s3_access_key: str | None = Field(
        default=None, repr=False, validation_alias=_standard("S3_ACCESS_KEY", "AWS_ACCESS_KEY_ID")
    )
    s3_secret_key: str | None = Field(
        default=None, repr=False, validation_alias=_standard("S3_SECRET_KEY", "AWS_SECRET_ACCESS_KEY")
    )
    s3_region: str = Field(
        default="us-east-1", validation_alias=_standard("S3_REGION", "AWS_REGION", "AWS_DEFAULT_REGION")
    )

    otlp_endpoint: str | None = Field(
        default=None, validation_alias=_standard("OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    )
    traces_url: str | None = None
    """Where traces are asked for (Jaeger's query API), as against sent to."""

    datasets_dir: str | None = None
    alert_webhook_url: str | None = Field(default=None, repr=False)

    http_host: str = "127.0.0.1"
    http_port: int = Field(default=0, ge=0, le=65535)
    """0: one that the system gives."""

    consumer: str | None = None
    """The name under which this replica reads from the streams. Stable over restarts, and nobody else's.

    Not set: `<service>-<host name>`, one for each container. `drp up` gives `<service>-1`. Set it where two replicas
    of a service share a host, for they would take each other's work for their own; and where a replica comes back
    under another host name, else what it left behind waits until the others take it for abandoned.
    """

    log_format: Literal["auto", "json", "text"] = "auto"

    niceness: int = Field(default=0, ge=0, le=19)
    """How much this process leaves the processors to others that want them. `drp up` has what comes after landing
    give way to it: under load orders are taken first, and readers see them later."""

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise Permanent("a setting is wrong", why=_explained(error)) from error

    def consumer_of(self, service: str) -> str:
        """This replica's name among those of the service."""
        return self.consumer or f"{service}-{socket.gethostname()}"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        del dotenv_settings, file_secret_settings
        return init_settings, env_settings, _FromFiles(settings_cls)


class _FromFiles(PydanticBaseSettingsSource):
    """NAME_FILE for every NAME."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        for name in _variables(field_name, field):
            if path := os.environ.get(f"{name}_FILE"):
                return _content(name, Path(path)), name, False
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for field_name, field in self.settings_cls.model_fields.items():
            value, name, _ = self.get_field_value(field, field_name)
            # An alias takes the alias's name, a plain field its own.
            if value is not None:
                found[name if field.validation_alias else field_name] = value
        return found


def _variables(field_name: str, field: FieldInfo) -> list[str]:
    if isinstance(field.validation_alias, AliasChoices):
        return [str(choice) for choice in field.validation_alias.choices]
    return [PREFIX + field_name.upper()]


def _content(name: str, path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Permanent(f"{name}_FILE cannot be read", why=str(error)) from error


def _explained(error: ValidationError) -> str:
    """Names the variables; never repeats a value, which may be a secret."""
    problems = []
    for problem in error.errors(include_url=False, include_input=False, include_context=False):
        name = str(problem["loc"][0]) if problem["loc"] else "settings"
        problems.append(f"{name if name.isupper() else PREFIX + name.upper()}: {problem['msg']}")
    return "; ".join(problems)
