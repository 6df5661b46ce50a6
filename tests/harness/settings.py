"""Loading of settings in tests: fixtures for an environment of the test's own, and values for production."""

import base64
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bg_ingest import setting_types
from bg_ingest.providers.dexcom.settings import DexcomSettings
from bg_ingest.settings import Settings, SettingsError, get_settings

KEY = base64.b64encode(bytes(range(32))).decode()
OTHER_KEY = base64.urlsafe_b64encode(bytes(range(224, 256))).decode().rstrip("=")
WHSEC = "whsec_" + base64.b64encode(b"w" * 24).decode()
PRODUCTION = {
    "ENVIRONMENT": "production",
    "AWS_REGION": "eu-central-1",
    "DYNAMODB_TABLE": "readings",
    "RABBITMQ_URL": "amqps://user:hunter2@broker.example/vhost",
    "DEXCOM_CLIENT_ID": "our-app",
    "DEXCOM_CLIENT_SECRET": "hunter3",
    "DEXCOM_REDIRECT_URI": "https://bg.example/api/oauth/dexcom/callback",
    "TOKEN_ENCRYPTION_KEYS": KEY,
}

Load = Callable[..., Settings]


@pytest.fixture(autouse=True)
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Return the addresses of names, which replace a name server: the start asks for the address of HOST."""
    addresses: dict[str, str] = {}

    def resolve(host: str, *_: object, **__: object) -> list[tuple[object, ...]]:
        if host not in addresses:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (addresses[host], 0))]

    monkeypatch.setattr(setting_types, "getaddrinfo", resolve)
    addresses["localhost"] = "127.0.0.1"
    return addresses


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Isolate tests from the settings of this machine."""
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    return tmp_path


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Iterator[Load]:
    """Start anew with this environment."""

    def start(**environment: str) -> Settings:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        get_settings.cache_clear()
        return get_settings()

    yield start
    get_settings.cache_clear()


def dexcom(settings: Settings) -> DexcomSettings:
    """Return the provider's part: the checker does not see what is composed at run time."""
    assert isinstance(settings, DexcomSettings)
    return settings


def refusal(load: Load, **environment: str) -> str:
    with pytest.raises(SettingsError) as refused:
        load(**environment)
    return str(refused.value)
