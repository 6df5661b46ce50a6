"""Providers chosen by the settings; a simulated one replaces Dexcom in development."""

from collections.abc import Mapping
from datetime import timedelta
from typing import cast

import httpx
from litestar.types import ASGIApp

from bg_ingest.adapters.clock import SystemClock
from bg_ingest.domain.access import WebhookProof
from bg_ingest.domain.grants import Secret
from bg_ingest.ports import Clock, Provider
from bg_ingest.providers import REGISTRY
from bg_ingest.providers.dexcom.settings import DexcomSettings
from bg_ingest.providers.http import DataClient
from bg_ingest.settings import Settings

SIMULATOR_PATH = "/simulator"


def is_simulated(settings: Settings) -> bool:
    """Return True if the simulated Dexcom replaces the real one."""
    return _dexcom(settings).dexcom_simulated


def simulator_mounts(settings: Settings) -> Mapping[str, ASGIApp]:
    """Return the simulated Dexcom by the path of its mount, if it replaces the real one."""
    if not is_simulated(settings):
        return {}
    from bg_ingest.simulator import SimulatorOptions, create_simulator

    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    journal = settings.data_dir / "simulator.jsonl"
    return {SIMULATOR_PATH: create_simulator(SimulatorOptions(), now=SystemClock().now, journal=journal)}


def build_providers(
    settings: Settings, http: httpx.AsyncClient, data: DataClient, clock: Clock
) -> Mapping[str, Provider]:
    providers = {name: part.build_provider(settings, http, data, clock) for name, part in REGISTRY.items()}
    if is_simulated(settings):
        providers["dexcom"] = _build_simulated(settings, http, data, clock)
    return {name: provider for name, provider in providers.items() if provider is not None}


def provider_urls(settings: Settings) -> dict[str, str]:
    """Return one address for each provider that is set up. A request to it shows whether the provider answers."""
    urls = {name: part.probe_url(settings) for name, part in REGISTRY.items()}
    return {name: url for name, url in urls.items() if url is not None}


def webhook_proofs(settings: Settings) -> Mapping[str, frozenset[WebhookProof]]:
    """Return the accepted proofs of webhooks, for each provider that pushes."""
    proofs = {name: part.proofs(settings) for name, part in REGISTRY.items()}
    return {name: frozenset(map(WebhookProof, accepted)) for name, accepted in proofs.items() if accepted}


def _build_simulated(settings: Settings, http: httpx.AsyncClient, data: DataClient, clock: Clock) -> Provider:
    from bg_ingest.providers.dexcom import DexcomOptions
    from bg_ingest.providers.dexcom.client import Dexcom
    from bg_ingest.simulator import SimulatorOptions

    simulated = SimulatorOptions()
    options = DexcomOptions(
        client_id=simulated.client_id,
        client_secret=Secret(simulated.client_secret),
        redirect_uri=_dexcom(settings).dexcom_redirect_uri,
        default_region=_dexcom(settings).dexcom_region,
        base_url=f"http://{settings.own_host}:{settings.port}{SIMULATOR_PATH}",
        delay=timedelta(seconds=simulated.delay_seconds),
        fixed_delay=_dexcom(settings).dexcom_fixed_delay,
    )
    return Dexcom(options, http, data, clock)


def _dexcom(settings: Settings) -> DexcomSettings:
    return cast("DexcomSettings", settings)  # a base class of Settings at run time, hidden from mypy
