"""The providers that the settings choose; in development a simulated one stands in."""
# ruff: noqa: PLC0415 - the simulator is imported where it is chosen: the start takes 2 seconds at most

from collections.abc import Mapping
from datetime import timedelta

import httpx
from litestar.types import ASGIApp

from bg_ingest.adapters.clock import SystemClock
from bg_ingest.domain.access import WebhookProof
from bg_ingest.domain.grants import Secret
from bg_ingest.ports import Clock, Provider
from bg_ingest.providers import REGISTRY
from bg_ingest.providers.dexcom.client import Dexcom
from bg_ingest.providers.dexcom.options import DexcomOptions
from bg_ingest.settings import Settings

SIMULATOR_PATH = "/simulator"


def simulator_mounts(settings: Settings) -> Mapping[str, ASGIApp]:
    """Return the simulated Dexcom by where it is mounted, where the settings fall back on it."""
    if not settings.simulated:
        return {}
    from bg_ingest.simulator import SimulatorOptions, create_simulator

    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    journal = settings.data_dir / "simulator.jsonl"
    return {SIMULATOR_PATH: create_simulator(SimulatorOptions(), now=SystemClock().now, journal=journal)}


def build_providers(settings: Settings, http: httpx.AsyncClient, clock: Clock) -> Mapping[str, Provider]:
    options = {Dexcom.name: _dexcom_options(settings)}
    return {name: build(options[name], http, clock) for name, build in REGISTRY.items()}


def provider_urls(settings: Settings) -> dict[str, str]:
    """Return where each provider would be asked for readings; empty where a simulated one stands in."""
    if settings.simulated:
        return {}
    return {Dexcom.name: _dexcom_options(settings).url(settings.dexcom_region, "/v3/users/self/egvs")}


def _dexcom_options(settings: Settings) -> DexcomOptions:
    if settings.simulated:
        from bg_ingest.simulator import SimulatorOptions

        simulated = SimulatorOptions()
        return DexcomOptions(
            client_id=simulated.client_id,
            client_secret=Secret(simulated.client_secret),
            redirect_uri=settings.dexcom_redirect_uri,
            default_region=settings.dexcom_region,
            base_url=f"http://{settings.own_host}:{settings.port}{SIMULATOR_PATH}",
            delay=timedelta(seconds=simulated.delay_seconds),
        )
    return DexcomOptions(
        client_id=settings.dexcom_client_id or "",
        client_secret=Secret(settings.dexcom_client_secret.get_secret_value() if settings.dexcom_client_secret else ""),
        redirect_uri=settings.dexcom_redirect_uri,
        default_region=settings.dexcom_region,
        base_url=settings.dexcom_api_base_url,
    )


def webhook_proofs(settings: Settings) -> Mapping[str, frozenset[WebhookProof]]:
    """Return what the webhooks of each provider may be proven by."""
    return {Dexcom.name: frozenset(map(WebhookProof, settings.dexcom_webhook_auth))}
