"""Settings: names, defaults, accepted values, sentences for wrong and missing ones."""

import base64
from pathlib import Path
from socket import EAI_NONAME, gaierror
from typing import Any

import pytest
from pydantic import SecretBytes, SecretStr

from bg_ingest import setting_types
from bg_ingest.settings import Settings, SettingsError, get_settings

KEY = base64.b64encode(bytes(range(32))).decode()
SIGNING = "whsec_" + base64.b64encode(b"w" * 24).decode()
STAGING = {
    "ENVIRONMENT": "staging",
    "AWS_REGION": "eu-central-1",
    "DYNAMODB_TABLE": "readings",
    "RABBITMQ_URL": "amqps://user:password@broker.example/vhost",
    "DEXCOM_CLIENT_ID": "our-app",
    "DEXCOM_CLIENT_SECRET": "secret",
    "DEXCOM_REDIRECT_URI": "https://bg.example/api/oauth/dexcom/callback",
    "TOKEN_ENCRYPTION_KEYS": KEY,
}
PROBES = (
    *("-1", "0", "1", "30", "59", "60", "100", "3650", "3651", "86400", "86401", "65536", "100001", "10000001", "1.5"),
    *("true", "false", "words with spaces", "Production", "staging", "development", "0.0.0.0", "localhost"),  # noqa: S104
    *("http://host.example/path/", "https://host.example:8443", "http://user:word@host.example", "amqp://host.example"),
    *("amqps://user:word@host.example/v", "ftp://host.example", "US", "ou", "jp", "sandbox", "eu", "debug", "INFO"),
    *("json", "Console", "signature", "bearer", "signature, Bearer", "none", ",", "~/data", "/data", "short"),
    *(KEY, f"{KEY},{KEY}", f"kms:{base64.b64encode(b'w' * 184).decode()}", "kms:", SIGNING, f"{SIGNING},x"),
    *(f"bgi_first_{'s' * 43}", "bgi_first_short"),
)
SITUATIONS: dict[str, dict[str, str]] = {
    "nothing": {},
    "staging alone": {"ENVIRONMENT": "staging"},
    "production alone": {"ENVIRONMENT": "production"},
    "staging": STAGING,
    "production": STAGING | {"ENVIRONMENT": "production"},
    "production without https": STAGING
    | {"ENVIRONMENT": "production", "DEXCOM_REDIRECT_URI": "http://bg.example/", "JWT_ISSUER": "http://id.example"},
    "production, API open": STAGING | {"ENVIRONMENT": "production", "API_OPEN": "true"},
    "emulator": {"DYNAMODB_ENDPOINT": "http://localhost:8000"},
    "port": {"PORT": "8080", "DEXCOM_CLIENT_ID": "our-app", "DEXCOM_CLIENT_SECRET": "secret"},
    "open": {"API_OPEN": "true"},
    "everywhere": {"HOST": "0.0.0.0"},  # noqa: S104
    "webhook by token": {"DEXCOM_WEBHOOK_AUTH": "bearer"},
    "several wrong": {"PORT": "http", "API_OPEN": "perhaps", "ENVIRONMENT": "prod", "REQUESTS_PER_SECOND": "0"},
}


def _find_no_name(*_: object, **__: object) -> None:
    """Replace the name server, which the start asks for the address of HOST."""
    raise gaierror(EAI_NONAME, "Name or service not known")


class SettingsTable:
    """Loads settings in an empty folder."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self._monkeypatch = monkeypatch
        self._folder = folder
        monkeypatch.chdir(folder)
        monkeypatch.setenv("HOME", str(folder / "home"))
        monkeypatch.setattr(setting_types, "getaddrinfo", _find_no_name)
        self.names = sorted(name.upper() for name in Settings.model_fields)
        for name in self.names:
            monkeypatch.delenv(name, raising=False)

    def rows(self) -> dict[str, Any]:
        """Return for every setting its default, the values it accepts, and a sentence for the others."""
        settings = self._load({})
        assert isinstance(settings, dict)
        return {name: {"default": settings[name], **self._probed(name)} for name in self.names if name != "SECRET_NAME"}

    def situations(self) -> dict[str, Any]:
        """Return for combinations of settings all values that differ from the defaults, or the sentences."""
        plain = self._load({})
        assert isinstance(plain, dict)
        found: dict[str, Any] = {}
        for title, environment in SITUATIONS.items():
            loaded = self._load(environment)
            found[title] = (
                loaded
                if isinstance(loaded, str)
                else {name: value for name, value in loaded.items() if value != plain[name]}
            )
        for name in self.names:
            if name not in {"SECRET_NAME", "ENVIRONMENT"}:
                found[f"staging without {name}"] = self._sentence(STAGING, name)
        return found

    def _sentence(self, environment: dict[str, str], left_out: str) -> str:
        loaded = self._load({name: value for name, value in environment.items() if name != left_out})
        return loaded if isinstance(loaded, str) else "accepted"

    def _probed(self, name: str) -> dict[str, Any]:
        accepted: dict[str, Any] = {}
        refused: dict[str, list[str]] = {}
        for probe in PROBES:
            loaded = self._load({name: probe})
            if isinstance(loaded, str):
                refused.setdefault(loaded, []).append(probe)
            else:
                accepted[probe] = loaded[name]
        plain = all(value == probe for probe, value in accepted.items())
        return {"accepted": list(accepted) if plain else accepted, "refused": refused}

    def _load(self, environment: dict[str, str]) -> dict[str, Any] | str:
        with self._monkeypatch.context() as patched:
            for name, value in environment.items():
                patched.setenv(name, value)
            get_settings.cache_clear()
            try:
                settings = get_settings()
            except SettingsError as refused:
                return str(refused)
            finally:
                get_settings.cache_clear()
        return {name.upper(): self._shown(value) for name, value in settings}

    def _shown(self, value: Any) -> Any:
        match value:
            case tuple():
                return [self._shown(item) for item in value]
            case SecretStr() | SecretBytes():
                return f"<secret of {len(value)}>"
            case Path():
                return f"path {value}".replace(str(self._folder), "<folder>")
            case bool() | int() | None:
                return value
            case _:
                return str(value)
