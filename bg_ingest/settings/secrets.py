"""Secrets outside the environment and `.env`: AWS Secrets Manager, and the generated key of development."""

import base64
import contextlib
import json
import os
import secrets
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anyio

from bg_ingest.setting_types import SEALING_KEY_BYTES, is_strict, parse_sealing_key
from bg_ingest.settings.environment import aws_url, check_aws, describe_proxies


class SecretUnreadable(Exception):
    """The text is one sentence with the secret's name, the reason and the remedy. It never quotes the secret."""


def read_secret(name: str, region: str | None, *, strict: bool = False) -> dict[str, str]:
    """Return the settings in a JSON secret, with lower-case names and values as texts.

    Without ``region``, the AWS library determines the region.

    pydantic-settings has a source for Secrets Manager too. It takes no time-outs, silently skips names in upper case
    by default, does not translate botocore's errors, and creates a session of its own.
    """
    from bg_ingest.adapters.aws.session import AWS_ERRORS, error_code  # noqa: PLC0415 - takes 0.3 s; used only with SECRET_NAME

    problems, _ = describe_proxies((), [aws_url("secrets_manager", region)])
    for problem in (*problems, *check_aws(strict=strict)):
        raise SecretUnreadable(f"The secret {name} cannot be read: {problem}")
    try:  # in a thread, because settings are also read inside a running event loop
        with ThreadPoolExecutor(1) as thread:
            text = thread.submit(anyio.run, _fetch_secret, name, region).result()
    except AWS_ERRORS as error:
        code = error_code(error)
    else:
        return _parse_secret(name, text)
    raise SecretUnreadable(
        f"The secret {name} cannot be read from AWS Secrets Manager ({code}): "
        "check SECRET_NAME, AWS_REGION, the AWS credentials and the network."
    )


async def _fetch_secret(name: str, region: str | None) -> str:
    from bg_ingest.adapters.aws.session import START_CONFIG, adapt_config, get_session  # noqa: PLC0415 - takes 0.3 s

    session = get_session()
    config = adapt_config(session, START_CONFIG)
    async with session.client("secretsmanager", region_name=region, config=config) as client:
        return str((await client.get_secret_value(SecretId=name)).get("SecretString", ""))


def _parse_secret(name: str, text: str) -> dict[str, str]:
    try:
        content = json.loads(text)
    except ValueError:  # the error holds the whole secret, so it is not chained
        content = None
    if not isinstance(content, dict):
        raise SecretUnreadable(f'The secret {name} should be a JSON object like {{"RABBITMQ_URL": "…"}}.')
    return {
        key.lower(): value if isinstance(value, str) else json.dumps(value)
        for key, value in content.items()
        if value is not None
    }


def load_or_create_key(file: Path) -> bytes:
    """Return the key in the file, which the first call creates. Concurrent processes all get the same key.

    Raises:
        SecretUnreadable: the file cannot be read or written, or does not hold a key.
    """
    try:
        if not file.exists():
            _create_key_file(file)
        key = parse_sealing_key(file.read_text("ascii"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise SecretUnreadable(f"{file} cannot be used ({reason}): check DATA_DIR and its permissions.") from None
    if key is None:
        raise SecretUnreadable(
            f"{file} holds no key: restore it, or remove it and connect all users again (their tokens are lost)."
        )
    return key


def _create_key_file(file: Path) -> None:
    """Write a draft and hard-link it to the name. The named file is complete or absent, and the first link wins."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=file.parent, prefix=f".{file.name}-") as draft:  # readable by its owner only
        draft.write(base64.b64encode(secrets.token_bytes(SEALING_KEY_BYTES)) + b"\n")
        draft.flush()
        os.fsync(draft.fileno())
        with contextlib.suppress(FileExistsError):
            file.hardlink_to(draft.name)


class SettingsError(Exception):
    """The settings are wrong; the text lists everything to correct."""


def merge_secret(given: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Merge the secret over the settings; also return warnings.

    If the secret is unreadable, development returns a warning. Other environments raise SettingsError.
    """
    given = _without_empty(given)
    if "secret_name" not in given:
        return given, []
    try:
        return given | _without_empty(
            read_secret(given["secret_name"], given.get("aws_region"), strict=is_strict(given))
        ), []
    except SecretUnreadable as unreadable:
        if is_strict(given):
            raise SettingsError(str(unreadable)) from None
        return given, [f"{unreadable} Continuing without it."]


def _without_empty(given: Mapping[str, Any]) -> dict[str, Any]:
    stripped = {name: value.strip() if isinstance(value, str) else value for name, value in given.items()}
    return {name: value for name, value in stripped.items() if value != ""}
