"""Composition root: builds adapters, providers and use cases from the settings. Imports only the chosen adapters."""

import os
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager
from datetime import timedelta

import httpx

from bg_ingest import __version__
from bg_ingest.adapters.clock import SystemClock
from bg_ingest.adapters.parquet import Arro3Encoder
from bg_ingest.domain.access import WebhookProof
from bg_ingest.domain.call_budget import ProviderLimit
from bg_ingest.domain.connections import PollDefaults
from bg_ingest.domain.grants import Secret
from bg_ingest.domain.ownership import EXCLUSIVE_TIMINGS, SHARED_TIMINGS, OwnershipTimings
from bg_ingest.domain.schedule import SweepDepth
from bg_ingest.errors import IngestError
from bg_ingest.observability.call_budget import CallBudgetCollector
from bg_ingest.observability.logs import LogContext
from bg_ingest.observability.observer import Metrics, Observers
from bg_ingest.observability.registry import MetricsRegistry
from bg_ingest.ports import Clock, Observer, Provider, PushProvider, Sealer, TokenVerifier, Wakeups
from bg_ingest.providers.data_client import open_data_client
from bg_ingest.providers.http_client import http_client
from bg_ingest.services import Services
from bg_ingest.services.access.audit import AuditLog
from bg_ingest.services.access.authenticate import ApiKeys, Authenticator
from bg_ingest.services.access.rotate_keys import KeyRotation
from bg_ingest.services.budget.demand import Demand
from bg_ingest.services.budget.provider import BudgetedProvider, SharedBudget
from bg_ingest.services.connections.connect import Connector
from bg_ingest.services.connections.erase import Eraser
from bg_ingest.services.connections.export import Exporter
from bg_ingest.services.connections.grants import Grants
from bg_ingest.services.connections.manage import ConnectionService
from bg_ingest.services.connections.states import ConnectionStates
from bg_ingest.services.polling.commit import Committer
from bg_ingest.services.polling.fetch import Fetcher
from bg_ingest.services.polling.gaps import GapKeeper
from bg_ingest.services.polling.ingest import Ingester
from bg_ingest.services.polling.poll import Poller
from bg_ingest.services.polling.quarantine import Quarantine
from bg_ingest.services.polling.quarantine_review import QuarantineReview
from bg_ingest.services.polling.webhooks import SenderTokens, WebhookReceiver
from bg_ingest.services.publishing.relay import Relay
from bg_ingest.services.queries.changes import ChangeQueries
from bg_ingest.services.queries.completeness import CompletenessQueries, Verifier
from bg_ingest.services.queries.datasets import DatasetQueries
from bg_ingest.services.queries.event_hub import EventHub
from bg_ingest.services.queries.many_users import ManyUsersQueries
from bg_ingest.services.queries.readings import ReadingQueries
from bg_ingest.services.queries.statistics import StatisticsQueries
from bg_ingest.services.queries.stream import DEFAULT_STREAM_LIMITS, StreamLimits
from bg_ingest.services.queries.stream_checks import StreamChecks
from bg_ingest.services.queries.timeline import RecentEvents, TimelineQueries
from bg_ingest.services.queries.users import UserQueries
from bg_ingest.settings import Settings
from bg_ingest.store import Store
from bg_ingest.wiring.broker import SOURCE, BrokerParts, build_broker_parts
from bg_ingest.wiring.keys import build_sealer
from bg_ingest.wiring.providers import build_providers, webhook_proofs
from bg_ingest.wiring.store import open_store

__all__ = ["SOURCE", "build_services", "open_services", "open_tracing"]


def build_services(
    store: Store,
    broker_parts: BrokerParts,
    providers: Mapping[str, Provider],
    *,
    metrics: Metrics,
    sealer: Sealer,
    clock: Clock,
    wakeups: Wakeups,
    defaults: PollDefaults,
    limit: ProviderLimit,
    table: str,
    token_verifier: TokenVerifier | None = None,
    bootstrap: Secret | None = None,
    observers: Sequence[Observer] = (),
    audit_retention: timedelta = timedelta(days=365),
    sender_tokens: SenderTokens | None = None,
    proofs: Mapping[str, AbstractSet[WebhookProof]] | None = None,
    stream_limits: StreamLimits = DEFAULT_STREAM_LIMITS,
    timings: OwnershipTimings = EXCLUSIVE_TIMINGS,
    name: str = "bg-ingest",
) -> Services:
    """Build the use cases.

    Sealed items are bound to `table`, the name of the table that stores them. `token_verifier` and `bootstrap` accept
    tokens of the issuer and one further key beside the stored API keys. `sender_tokens` accepts the tokens of webhook
    senders, for providers whose `proofs` include tokens.
    """
    push_providers = {name: provider for name, provider in providers.items() if isinstance(provider, PushProvider)}
    recent_events = RecentEvents(clock)
    authenticator = Authenticator(store.keys, clock, token_verifier=token_verifier, bootstrap=bootstrap)
    audit_log = AuditLog(store.audit, sealer, clock, table, retention=audit_retention)
    change_queries = ChangeQueries(store, clock, SOURCE)
    stream_checks = StreamChecks(authenticator, audit_log, clock)
    hub = EventHub(store, change_queries, broker_parts.hints, stream_checks, clock, metrics, stream_limits)
    observer = Observers(recent_events, *observers, metrics, LogContext(), hub)
    committer = Committer(store, observer, wakeups)
    capabilities = {name: provider.capabilities for name, provider in providers.items()}
    quarantine = Quarantine(store, committer, observer, sealer, clock, table)
    budget = SharedBudget(store.budgets, capabilities, clock, limit, defaults.poll_interval)
    demand = Demand(budget, defaults)
    metrics.registry.add(CallBudgetCollector(demand))
    providers = {name: BudgetedProvider(provider, budget, observer) for name, provider in providers.items()}
    ingester = Ingester(store.readings, store.webhooks, quarantine, committer, observer, clock, capabilities, defaults)
    connection_states = ConnectionStates(store.readings, committer, clock, ingester.summarize)
    grants = Grants(store.grants, providers, budget, sealer, clock, table, observer)
    fetcher = Fetcher(store.connections, providers, grants, ingester, connection_states, clock, defaults)
    gap_keeper = GapKeeper(store.readings, store.gaps, committer, clock)
    poller = Poller(store, providers, fetcher, gap_keeper, connection_states, clock, defaults, demand, observer)
    quarantine_review = QuarantineReview(store, committer, sealer, providers, clock, table)
    reader = ReadingQueries(store.readings, clock)
    return Services(
        observer=observer,
        store=store,
        publisher=broker_parts.publisher,
        clock=clock,
        authenticator=authenticator,
        api_keys=ApiKeys(store.keys, clock),
        audit_log=audit_log,
        key_rotation=KeyRotation(store.sealed, sealer, table),
        connector=Connector(store, providers, grants, connection_states, clock, wakeups, defaults),
        connections=ConnectionService(store, poller, connection_states, clock, wakeups, defaults),
        grants=grants,
        eraser=Eraser(store, committer, clock, wakeups),
        exporter=Exporter(store, quarantine_review, audit_log, clock, SOURCE),
        poller=poller,
        webhook_receiver=WebhookReceiver(
            store, push_providers, ingester, clock, wakeups, observer, sender_tokens or SenderTokens(), proofs or {}
        ),
        quarantine_review=quarantine_review,
        budget=budget,
        demand=demand,
        relay=Relay(store.outbox, broker_parts.publisher, observer),
        reader=reader,
        statistics=StatisticsQueries(reader),
        change_queries=change_queries,
        event_hub=hub,
        many_users=ManyUsersQueries(store, change_queries, clock),
        user_list=UserQueries(store, clock),
        datasets=DatasetQueries(store.readings, reader, f"bg-ingest {__version__}"),
        completeness=CompletenessQueries(store, clock),
        timelines=TimelineQueries(store, poller, recent_events, clock),
        verifier=Verifier(store, providers, grants),
        columnar=Arro3Encoder(),
        broker=broker_parts.broker,
        hint_connection=broker_parts.hint_connection,
        timings=timings,
        name=name,
    )


@asynccontextmanager
async def open_services(settings: Settings, registry: MetricsRegistry, wakeups: Wakeups) -> AsyncIterator[Services]:
    """Open the parts that the settings choose and yield the use cases over them; close the parts in reverse."""
    clock = SystemClock()
    metrics = Metrics(registry, clock)
    async with (
        open_tracing(settings.traces_endpoint) as traces,
        open_store(settings, clock, metrics) as store,
        http_client() as http,
        open_data_client() as data,
    ):
        yield build_services(
            store,
            build_broker_parts(settings),
            build_providers(settings, http, data, clock),
            metrics=metrics,
            sealer=await build_sealer(settings),
            clock=clock,
            wakeups=wakeups,
            defaults=PollDefaults(
                timedelta(seconds=settings.poll_interval_seconds),
                settings.backfill_days,
                timedelta(seconds=settings.overlap_seconds),
                SweepDepth(timedelta(days=settings.sweep_days), timedelta(days=settings.weekly_sweep_days)),
            ),
            limit=ProviderLimit(settings.provider_calls_per_hour),
            table=settings.dynamodb_table or "bg-ingest",
            token_verifier=_build_token_verifier(
                http, clock, settings.jwt_issuer, settings.jwt_audience, settings.jwt_jwks_url
            ),
            bootstrap=Secret(bootstrap.get_secret_value()) if (bootstrap := settings.api_bootstrap_key) else None,
            sender_tokens=_build_sender_tokens(settings, http, clock),
            proofs=webhook_proofs(settings),
            audit_retention=timedelta(days=settings.audit_days),
            observers=traces,
            stream_limits=StreamLimits(settings.streams, settings.stream_heartbeat_seconds),
            timings=EXCLUSIVE_TIMINGS if settings.store == "sqlite" else SHARED_TIMINGS,
            name=f"{socket.gethostname()}-{os.getpid()}",
        )


@asynccontextmanager
async def open_tracing(endpoint: str | None) -> AsyncIterator[Sequence[Observer]]:
    """Yield the observer that sends traces to the endpoint; no observer without an endpoint.

    OpenTelemetry is an optional dependency and imported only with an endpoint; IngestError if it is missing.
    """
    if endpoint is None:
        yield ()
        return
    try:
        from bg_ingest.observability.tracing import export_traces
    except ImportError:
        raise IngestError("TRACES_ENDPOINT needs OpenTelemetry: pip install 'bg-ingest[otel]'.") from None
    with export_traces(endpoint) as traces:
        yield (traces,)


def _build_token_verifier(
    http: httpx.AsyncClient, clock: Clock, issuer: str | None, audience: str | None, keys_url: str | None
) -> TokenVerifier | None:
    if issuer is None or audience is None:
        return None
    from bg_ingest.adapters.jwt import JwtVerifier

    return JwtVerifier(http, clock, issuer=issuer, audience=audience, keys_url=keys_url)


def _build_sender_tokens(settings: Settings, http: httpx.AsyncClient, clock: Clock) -> SenderTokens:
    issuer, audience = settings.webhook_jwt_issuer, settings.webhook_jwt_audience
    return SenderTokens(
        _build_token_verifier(http, clock, issuer, audience, settings.webhook_jwt_jwks_url), settings.webhook_jwt_scope
    )
