"""What is missing and what is wrong, each in a sentence for the operator that shows no value."""

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from bg_ingest.settings.types import KEY_COMMAND, is_strict

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
