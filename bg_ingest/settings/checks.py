"""Sentences for the operator about missing and wrong settings, without their values."""

from collections.abc import Iterator, Mapping
from io import StringIO
from pathlib import Path
from typing import Any

from dotenv.parser import parse_stream
from pydantic import ValidationError

from bg_ingest.providers import PROVIDER_SETTINGS
from bg_ingest.setting_types import KEY_COMMAND, is_strict

_REQUIRED = {
    "aws_region": "set the AWS region of the table",
    "dynamodb_table": "set the name of the DynamoDB table",
    "rabbitmq_url": "set the address of RabbitMQ: amqps://user:password@host/vhost",
    **{name: advice for part in PROVIDER_SETTINGS for name, advice in part.required.items()},
    "token_encryption_keys": f"make one with: {KEY_COMMAND}",
}
"""Settings that staging and production require, each with the advice to the operator."""

_COUPLED = {
    **{name: others for part in PROVIDER_SETTINGS for name, others in part.coupled.items()},
    "jwt_issuer": ("jwt_audience",),
    "jwt_audience": ("jwt_issuer",),
    "jwt_jwks_url": ("jwt_issuer", "jwt_audience"),
    "webhook_jwt_issuer": ("webhook_jwt_audience",),
    "webhook_jwt_audience": ("webhook_jwt_issuer",),
    "webhook_jwt_jwks_url": ("webhook_jwt_issuer", "webhook_jwt_audience"),
    "webhook_jwt_scope": ("webhook_jwt_issuer", "webhook_jwt_audience"),
}
"""By setting: the settings that it requires, because it has no effect without them."""


def describe_errors(invalid: ValidationError) -> Iterator[str]:
    for error in invalid.errors(include_input=False, include_url=False, include_context=False):
        if error["type"] != "default_factory_not_called":  # follows from another wrong setting, which is listed
            name = str(error["loc"][0]).upper()
            yield f"{name} {error['msg'].removeprefix('Value error, ').removeprefix('Input ')}."


def describe_ignored(given: Mapping[str, Any], known: Mapping[str, Any], host: str) -> Iterator[str]:
    """Yield a sentence for each name that is no setting, and one if ``host`` replaces the value of HOST."""
    for name in sorted(given.keys() - known.keys()):
        yield f"{name.upper()} in .env or the secret is no setting: it has no effect."
    if known.get("host", host) != host:
        yield f"HOST is no address or name of this machine (conda sets it for compilers): {host} is used instead."


def describe_env_file(path: Path) -> Iterator[str]:
    """Yield a sentence for each malformed line of a .env file, and for each name that the file sets more than once."""
    if not path.is_file():
        return
    lines: dict[str, list[int]] = {}
    for binding in parse_stream(StringIO(path.read_text("utf-8-sig"))):
        text = binding.original.string
        line = binding.original.line + text[: len(text) - len(text.lstrip())].count("\n")  # after its blank lines
        if binding.error:
            yield f"Line {line} of {path} is not of the form NAME=value: it has no effect."
        elif binding.key:
            lines.setdefault(binding.key.upper(), []).append(line)
    for name, numbers in lines.items():
        if len(numbers) > 1:
            yield f"{name} is set in lines {', '.join(map(str, numbers))} of {path}: keep one of them."


def find_missing(given: Mapping[str, Any]) -> Iterator[str]:
    required = dict(_REQUIRED) if is_strict(given) else {}
    for name, others in _COUPLED.items():
        for other in others if name in given else ():
            required.setdefault(other, f"{name.upper()} is set and requires it")
    for setting in filter(None, (part.webhook_auth for part in PROVIDER_SETTINGS)):
        if "bearer" in str(given.get(setting, "")).lower():
            for name in ("webhook_jwt_issuer", "webhook_jwt_audience"):
                required.setdefault(name, f"{setting.upper()} includes bearer, which requires it")
    for name, advice in required.items():
        if name not in given:
            yield f"{name.upper()} is missing: {advice}."
