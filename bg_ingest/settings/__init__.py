"""Settings of this process, typed and validated as a whole.

Precedence: the secret of AWS Secrets Manager (SECRET_NAME), the environment, `.env` in the current directory. Empty
means unset. Secrets are never shown in a representation, a serialised form or an error. `.env.example` explains every
setting.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn, Self

from pydantic import Field, ModelWrapValidatorHandler, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from bg_ingest import addresses
from bg_ingest.providers import PROVIDER_SETTINGS
from bg_ingest.providers.settings import ProviderSettings
from bg_ingest.setting_types import (
    ApiKeyText,
    Folder,
    HostNames,
    HttpUrl,
    OpenFlag,
    Port,
    SealingKeys,
    SigningSecrets,
    WrappedKey,
    is_loopback,
    is_own_host,
    to_lower,
    to_upper,
)
from bg_ingest.settings.broker import BrokerSettings
from bg_ingest.settings.checks import describe_env_file, describe_errors, describe_ignored, find_missing
from bg_ingest.settings.environment import check_environment
from bg_ingest.settings.public import PublicSettings
from bg_ingest.settings.secrets import SecretUnreadable, SettingsError, load_or_create_key, merge_secret

__all__ = ["Settings", "SettingsError", "get_settings"]

ENV_FILE = Path(".env")


class ServiceSettings(BaseSettings):
    """Settings of the service itself. None is the value of an optional setting that is not set."""

    model_config = SettingsConfigDict(
        env_file=ENV_FILE,
        env_ignore_empty=True,
        extra="allow",  # _validate_all reports unknown names
        frozen=True,
        validate_default=False,  # defaults have the final type already
    )

    # Defaults and checks of a field read the fields before it: the order matters.
    environment: Annotated[Literal["development", "staging", "production"], to_lower] = "development"
    secret_name: str | None = None

    dynamodb_endpoint: HttpUrl | None = None
    dynamodb_table: str | None = Field(
        default_factory=lambda given: "bg-ingest" if given["dynamodb_endpoint"] else None
    )
    aws_region: str | None = Field(  # emulators accept any region
        default_factory=lambda given: "us-east-1" if given["dynamodb_endpoint"] else None
    )
    data_dir: Annotated[Folder, Field(validate_default=True)] = Path(".bg-ingest")
    token_encryption_keys: SealingKeys = ()

    api_open: OpenFlag = False
    allowed_hosts: HostNames = ()
    api_bootstrap_key: ApiKeyText | None = None
    requests_per_second: Annotated[int, Field(ge=1, le=100_000)] = 100
    jwt_issuer: HttpUrl | None = None
    jwt_audience: str | None = None
    jwt_jwks_url: HttpUrl | None = None
    webhook_signing_secrets: SigningSecrets = ()
    webhook_jwt_issuer: HttpUrl | None = None
    webhook_jwt_audience: str | None = None
    webhook_jwt_jwks_url: HttpUrl | None = None
    webhook_jwt_scope: str = "webhooks:write"
    webhooks_per_second: Annotated[int, Field(ge=1, le=100_000)] = 50
    host: str = Field(
        default_factory=lambda given: (
            "127.0.0.1" if given["environment"] == "development" and not given["api_open"] else "0.0.0.0"  # noqa: S104 - a container's address is unknown in advance
        )
    )
    port: Port = 5001
    keep_alive_seconds: Annotated[int, Field(ge=1, le=3_600)] = 75
    metrics_port: Port | None = None
    page: bool = True
    traces_endpoint: HttpUrl | None = None

    streams: Annotated[int, Field(ge=0, le=10_000)] = 1000
    stream_heartbeat_seconds: Annotated[int, Field(ge=1, le=60)] = 3

    poll_interval_seconds: Annotated[int, Field(ge=60, le=86_400)] = 900
    overlap_seconds: Annotated[int, Field(ge=0, le=86_400)] = 10_800
    sweep_days: Annotated[int, Field(ge=0, le=30)] = 3
    weekly_sweep_days: Annotated[int, Field(ge=0, le=30)] = 30
    provider_calls_per_hour: Annotated[int, Field(ge=100, le=10_000_000)] = 60_000
    backfill_days: Annotated[int, Field(ge=0, le=3_650)] = 90

    audit_days: Annotated[int, Field(ge=1, le=3_650)] = 365

    log_level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], to_upper] = "INFO"
    log_format: Annotated[Literal["json", "console"], to_lower] = Field(
        default_factory=lambda given: "console" if given["environment"] == "development" else "json"
    )

    _notes: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """Warnings to log at the start: settings without effect, an unreadable secret."""
        return self._notes

    @property
    def store(self) -> Literal["dynamodb", "sqlite"]:
        return "dynamodb" if self.dynamodb_table else "sqlite"

    @property
    def anonymous(self) -> bool:
        """True if the API needs no credentials until an API key exists: in development without other credentials."""
        return _is_anonymous(vars(self))

    @property
    def own_host(self) -> str:
        """Host under which this machine reaches the service, as in a URL."""
        return addresses.own_host(self.host)

    @property
    def sqlite_file(self) -> Path:
        return self.data_dir / "bg-ingest.sqlite"

    @property
    def key_file(self) -> Path:
        return self.data_dir / "token-encryption-key"

    def sealing_keys(self) -> tuple[bytes | WrappedKey, ...]:
        """Return the key ring, the sealing key first. Plain keys have 32 bytes. Development creates a key if needed."""
        if self.token_encryption_keys:
            keys = self.token_encryption_keys
            return tuple(key if isinstance(key, WrappedKey) else key.get_secret_value() for key in keys)
        try:
            return (load_or_create_key(self.key_file),)
        except SecretUnreadable as unreadable:
            raise SettingsError(str(unreadable)) from None

    @field_validator("host")
    @classmethod
    def _check_host(cls, host: str, info: ValidationInfo) -> str:
        host = host.removeprefix("[").removesuffix("]")  # an IPv6 address as in a URL
        if not is_own_host(host):
            if info.data.get("environment") == "development":
                return "127.0.0.1"  # a note reports it
            raise ValueError("should be an address or a name of this machine")
        if _is_anonymous(info.data) and not info.data.get("api_open") and not is_loopback(host):
            raise ValueError(
                "should be 127.0.0.1 while the API is open without credentials; if every client that reaches it may "
                "read all data, set API_OPEN=true"
            )
        return host

    def __reduce__(self) -> NoReturn:
        raise TypeError("settings are not pickled: their secrets would be in clear")

    @model_validator(mode="wrap")
    @classmethod
    def _validate_all(cls, given: dict[str, Any], validate: ModelWrapValidatorHandler[Self]) -> Self:
        """Merge the secret, then report everything missing and wrong in one error."""
        given, notes = merge_secret(given)
        known = {name: value for name, value in given.items() if name in cls.model_fields}
        problems = [*find_missing(known)]
        try:
            settings = validate(known)
        except ValidationError as invalid:
            settings = None
            problems = [*describe_errors(invalid), *problems]
        if isinstance(settings, Settings) and not problems:
            provider_urls = [part.probe_url(settings) for part in PROVIDER_SETTINGS]
            files = (settings.sqlite_file, settings.key_file)
            problems, more_notes = check_environment(vars(settings), provider_urls, files)
            notes += more_notes
        if settings is None or problems:
            raise SettingsError("\n  - ".join(["Wrong settings (.env.example explains each):", *problems]))
        settings._notes = (*describe_env_file(ENV_FILE), *notes, *describe_ignored(given, known, settings.host))  # noqa: SLF001 - of this class
        return settings


if TYPE_CHECKING:  # the type checker accepts no computed bases
    ProviderParts = ProviderSettings
else:
    ProviderParts = type("ProviderParts", PROVIDER_SETTINGS, {"__module__": __name__})


class Settings(PublicSettings, ProviderParts, BrokerSettings, ServiceSettings):
    """All settings; `get_settings` returns the process's own.

    The fields follow in the order service, broker, providers, public address: checks and defaults of a part use the
    values of the parts before it.
    """

    @property
    def own_names(self) -> set[str]:
        """Host names that the operator has set for this service. localhost is always valid and is not in the set."""
        return {self.host, *self.allowed_hosts}

    def fallbacks(self) -> list[str]:
        """Return a sentence for each embedded part that replaces one not configured; none outside development."""
        if self.environment != "development":
            return []
        given, dynamodb = self.model_fields_set, self.store == "dynamodb"
        own_address = f"{addresses.in_url(self.host)}:{self.port}"
        lines = (
            (not dynamodb, f"No DYNAMODB_TABLE: readings are kept in SQLite, {self.sqlite_file}."),
            (dynamodb and "dynamodb_table" not in given, f"No DYNAMODB_TABLE: the table is {self.dynamodb_table}."),
            (self.publisher == "local", "No RABBITMQ_URL: events are published inside this process only."),
            *((True, line) for part in PROVIDER_SETTINGS for line in part.fallbacks(self)),
            (
                not self.token_encryption_keys,
                f"No TOKEN_ENCRYPTION_KEYS: tokens are sealed with {self.key_file}, made at the first start.",
            ),
            (
                self.anonymous,
                f"No credentials: until a key is made, the API is open to every client of {own_address}.",
            ),
        )
        return [line for applies, line in lines if applies]


@cache
def get_settings() -> Settings:
    """Return the settings of this process, read once.

    Raises:
        SettingsError: the text lists everything missing and wrong for the operator, without values.
    """
    try:
        return Settings()
    except (OSError, UnicodeDecodeError):
        reason = ".env cannot be read: it should be a text file in UTF-8 that this user may read."
    raise SettingsError(reason)


def _is_anonymous(given: Mapping[str, Any]) -> bool:
    return given.get("environment") == "development" and not (given.get("jwt_issuer") or given.get("api_bootstrap_key"))
