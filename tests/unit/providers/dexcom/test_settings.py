"""Settings of Dexcom on their own; ``tests/unit/settings`` reads them with all others from an environment."""

import subprocess
import sys
from datetime import timedelta
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from bg_ingest.providers import REGISTRY
from bg_ingest.providers.dexcom.settings import DexcomSettings
from tests.fakes.clock import SetClock


def settings(**changed: Any) -> DexcomSettings:
    usual: dict[str, Any] = {
        "dexcom_client_id": "our-app",
        "dexcom_client_secret": SecretStr("our-secret"),
        "dexcom_redirect_uri": "https://app.test/callback",
    }
    return DexcomSettings(**usual | changed)


async def test_the_registry_builds_a_provider() -> None:
    async with httpx.AsyncClient() as http:
        provider = REGISTRY["dexcom"].build_provider(settings(dexcom_region="OU"), http, http, SetClock())
    assert provider is not None
    assert provider.name == "dexcom"
    assert provider.capabilities.app == "our-app"
    assert provider.capabilities.default_region == "ou"
    assert provider.capabilities.longest_window == timedelta(days=30)


async def test_without_an_app_there_is_no_provider_and_nothing_to_probe() -> None:
    unset = settings(dexcom_client_id=None)
    assert unset.dexcom_simulated
    assert unset.probe_url() is None
    async with httpx.AsyncClient() as http:
        assert unset.build_provider(http, http, SetClock()) is None


@pytest.mark.parametrize(
    ("changed", "url"),
    [
        ({}, "https://api.dexcom.com/v3/users/self/egvs"),
        ({"dexcom_region": "jp"}, "https://api.dexcom.jp/v3/users/self/egvs"),
        ({"dexcom_api_base_url": "http://localhost:1/sim/"}, "http://localhost:1/sim/v3/users/self/egvs"),
    ],
)
def test_readings_of_the_default_region_are_probed(changed: dict[str, str], url: str) -> None:
    assert settings(**changed).probe_url() == url


def test_a_webhook_is_proven_as_the_setting_says() -> None:
    assert settings().proofs() == ("signature",)
    assert settings(dexcom_webhook_auth="Bearer, signature").proofs() == ("bearer", "signature")


def test_the_secret_is_in_no_text() -> None:
    texts = [str(settings()), repr(settings()), settings().model_dump_json(), repr(settings().dexcom_options())]
    assert not [text for text in texts if "our-secret" in text]


@pytest.mark.parametrize(
    "module",
    ["bg_ingest.settings", "bg_ingest.providers", "bg_ingest.providers.dexcom.settings", "bg_ingest.setting_types"],
)
def test_settings_load_first_or_last_and_without_the_client(module: str) -> None:
    code = f"import {module}, sys; from bg_ingest.settings import Settings; print('authlib' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"
