"""What is missing and what is wrong, each in a sentence for the operator that shows no value."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from bg_ingest.settings.types import KEY_COMMAND

if TYPE_CHECKING:
    from bg_ingest.settings import Settings

_REQUIRED = {
    "aws_region": "say in which AWS region the table is",
    "dynamodb_table": "name the DynamoDB table",
    "rabbitmq_url": "say where RabbitMQ is: amqps://user:password@host/vhost",
    "dexcom_client_id": "take it from your app at developer.dexcom.com",
    "dexcom_client_secret": "take it from your app at developer.dexcom.com",
    "dexcom_redirect_uri": "say what your Dexcom app has registered: https://<host>/api/oauth/dexcom/callback",
    "token_encryption_keys": f"make one with: {KEY_COMMAND}",
}
"""What staging and production cannot start without, and what to do about it."""

_COUPLED = {
    "dexcom_client_id": ("dexcom_client_secret",),
    "dexcom_client_secret": ("dexcom_client_id",),
    "dexcom_api_base_url": ("dexcom_client_id", "dexcom_client_secret"),
    "jwt_issuer": ("jwt_audience",),
    "jwt_audience": ("jwt_issuer",),
    "jwt_jwks_url": ("jwt_issuer", "jwt_audience"),
    "webhook_jwt_issuer": ("webhook_jwt_audience",),
    "webhook_jwt_audience": ("webhook_jwt_issuer",),
    "webhook_jwt_jwks_url": ("webhook_jwt_issuer", "webhook_jwt_audience"),
    "webhook_jwt_scope": ("webhook_jwt_issuer", "webhook_jwt_audience"),
}
"""Who sets the one means the others too: alone it would do nothing, in silence."""


def is_strict(given: Mapping[str, Any]) -> bool:
    return str(given.get("environment", "development")).lower() != "development"


def describe_errors(invalid: ValidationError) -> Iterator[str]:
    for error in invalid.errors(include_input=False, include_url=False, include_context=False):
        if error["type"] != "default_factory_not_called":  # another setting is wrong, and is listed
            name = str(error["loc"][0]).upper()
            yield f"{name} {error['msg'].removeprefix('Value error, ').removeprefix('Input ')}."


def find_missing(given: Mapping[str, Any]) -> Iterator[str]:
    required = dict(_REQUIRED) if is_strict(given) else {}
    for name, others in _COUPLED.items():
        for other in others if name in given else ():
            required.setdefault(other, f"{name.upper()} is set and needs it")
    if "bearer" in str(given.get("dexcom_webhook_auth", "")).lower():
        for name in ("webhook_jwt_issuer", "webhook_jwt_audience"):
            required.setdefault(name, "DEXCOM_WEBHOOK_AUTH has bearer and needs it")
    for name, advice in required.items():
        if name not in given:
            yield f"{name.upper()} is missing: {advice}."


def list_fallbacks(settings: "Settings") -> list[str]:
    """Return a sentence for each embedded part that stands in for one not configured."""
    given = settings.model_fields_set
    dynamodb = settings.store == "dynamodb"
    lines = (
        (not dynamodb, f"No DYNAMODB_TABLE: readings are kept in SQLite, {settings.sqlite_file}."),
        (dynamodb and "dynamodb_table" not in given, f"No DYNAMODB_TABLE: it is {settings.dynamodb_table}."),
        (settings.publisher == "local", "No RABBITMQ_URL: events are told inside this process only."),
        (settings.simulated, "No DEXCOM_CLIENT_ID: a simulated Dexcom at /simulator stands in."),
        (
            not settings.simulated and "dexcom_redirect_uri" not in given,
            f"No DEXCOM_REDIRECT_URI: it is {settings.dexcom_redirect_uri}; your Dexcom app must have it registered.",
        ),
        (
            not settings.token_encryption_keys,
            f"No TOKEN_ENCRYPTION_KEYS: tokens are sealed with {settings.key_file}, made at the first start.",
        ),
        (
            settings.anonymous,
            f"No credentials: until a key is made, the API is open to whoever reaches {settings.host}:{settings.port}.",
        ),
    )
    return [line for applies, line in lines if applies]
