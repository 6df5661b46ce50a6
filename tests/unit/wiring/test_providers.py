"""Providers chosen by the settings."""

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from bg_ingest.domain.access import WebhookProof
from bg_ingest.settings import Settings
from bg_ingest.simulator import SimulatorOptions
from bg_ingest.wiring.providers import (
    SIMULATOR_PATH,
    build_providers,
    is_simulated,
    provider_urls,
    simulator_mounts,
    webhook_proofs,
)
from tests.fakes.clock import SetClock
from tests.harness.settings import PRODUCTION
from tests.harness.settings import folder as folder  # noqa: PLC0414 - fixtures
from tests.harness.settings import load as load  # noqa: PLC0414 - fixtures

Load = Callable[..., Settings]
HTTP = httpx.AsyncClient(transport=httpx.MockTransport(lambda _: httpx.Response(404)))


def test_without_an_app_the_simulated_provider_replaces_the_real_one(load: Load, folder: Path) -> None:
    settings = load()
    assert is_simulated(settings)
    assert set(simulator_mounts(settings)) == {SIMULATOR_PATH}
    assert provider_urls(settings) == {}
    provider = build_providers(settings, HTTP, HTTP, SetClock())["dexcom"]
    assert provider.capabilities.app == SimulatorOptions().client_id
    assert (folder / ".bg-ingest").stat().st_mode & 0o777 == 0o700, "the journal of the simulator holds tokens"


def test_with_an_app_nothing_is_simulated(load: Load) -> None:
    settings = load(**PRODUCTION)
    assert not is_simulated(settings)
    assert simulator_mounts(settings) == {}
    assert provider_urls(settings)["dexcom"].startswith("https://api.dexcom.com/")
    provider = build_providers(settings, HTTP, HTTP, SetClock())["dexcom"]
    assert provider.capabilities.app == PRODUCTION["DEXCOM_CLIENT_ID"]


@pytest.mark.parametrize(
    ("changes", "allowed"),
    [
        ({}, False),
        ({"ENVIRONMENT": "staging"}, False),
        ({"DEXCOM_REGION": "sandbox"}, True),
        ({"ENVIRONMENT": "development"}, True),
    ],
)
def test_s14_the_sandbox_is_chosen_only_if_the_operator_allows_it(
    load: Load, changes: dict[str, str], *, allowed: bool
) -> None:
    capabilities = build_providers(load(**PRODUCTION | changes), HTTP, HTTP, SetClock())["dexcom"].capabilities
    assert ("sandbox" in capabilities.open_regions) is allowed
    assert {"us", "ou", "jp"} <= set(capabilities.open_regions)
    assert "sandbox" in capabilities.regions, "existing connections continue"


def test_s14_one_address_is_one_host(load: Load) -> None:
    for changes, single in (({}, False), ({"DEXCOM_API_BASE_URL": "https://proxy.example"}, True)):
        provider = build_providers(load(**PRODUCTION | changes), HTTP, HTTP, SetClock())["dexcom"]
        assert (provider.capabilities.host_region("jp") == "us") is single


@pytest.mark.parametrize("proofs", [("signature",), ("bearer",), ("signature", "bearer")])
def test_webhooks_are_proven_as_the_settings_say(load: Load, proofs: tuple[str, ...]) -> None:
    issuer = {"WEBHOOK_JWT_ISSUER": "https://id.example/", "WEBHOOK_JWT_AUDIENCE": "bg"}
    settings = load(DEXCOM_WEBHOOK_AUTH=",".join(proofs), **issuer)
    assert webhook_proofs(settings) == {"dexcom": set(map(WebhookProof, proofs))}
