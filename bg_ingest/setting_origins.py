"""Where settings come from beside the environment: a secret whose keys win, and what to do when it cannot be had."""

from collections.abc import Mapping
from typing import Any

from bg_ingest.kept_secrets import SecretUnreadable, from_aws
from bg_ingest.setting_rules import strict


class SettingsError(Exception):
    """The settings are wrong; the text lists everything to put right."""


def with_secret(given: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return what was set, the secret first, and what to warn about; SettingsError where it must be had."""
    given = _set(given)
    if "secret_name" not in given:
        return given, []
    try:
        return given | _set(from_aws(given["secret_name"], given.get("aws_region"))), []
    except SecretUnreadable as unreadable:
        if strict(given):
            raise SettingsError(str(unreadable)) from None
        return given, [f"{unreadable} Going on without it."]


def _set(given: Mapping[str, Any]) -> dict[str, Any]:
    stripped = {name: value.strip() if isinstance(value, str) else value for name, value in given.items()}
    return {name: value for name, value in stripped.items() if value != ""}
