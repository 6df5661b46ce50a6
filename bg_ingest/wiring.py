"""What is joined to what, by the settings. Adapters are imported here, and only those that are chosen."""
# ruff: noqa: PLC0415 - see above: the start takes 2 seconds at most

import os
import socket
from collections.abc import AsyncIterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager
from datetime import timedelta

import httpx

from bg_ingest.adapters.clock import SystemClock
from bg_ingest.adapters.table.protocol import Table
from bg_ingest.adapters.table.store import TableStore
from bg_ingest.domain.budget import Limit
from bg_ingest.domain.connections import Defaults
from bg_ingest.domain.credentials import Proof
from bg_ingest.domain.grants import Secret
from bg_ingest.domain.leases import ALONE, SHARED, Tempo
from bg_ingest.domain.sweeps import Reach
from bg_ingest.metrics.budget import BudgetStanding
from bg_ingest.metrics.changes import (
    MeasuredHints,
    MeasuredIngest,
    MeasuredPublisher,
    MeasuredReceiving,
    MeasuredShelving,
)
from bg_ingest.metrics.measures import Measures
from bg_ingest.metrics.outbox import MeasuredOutbox
from bg_ingest.metrics.provider import MeasuredProvider
from bg_ingest.metrics.turns import MeasuredTurns
from bg_ingest.ports import Broker, Clock, Hints, Provider, Publisher, Sealer, Store, Tokens, Tracing, Turns
from bg_ingest.providers.http import http_client
from bg_ingest.services.admission import Admission
from bg_ingest.services.audit import Auditing
from bg_ingest.services.backfill import Backfilling
from bg_ingest.services.bound import BoundTurns
from bg_ingest.services.budget import Budgeted, SharedBudget
from bg_ingest.services.completeness import Completeness
from bg_ingest.services.connect import Connecting
from bg_ingest.services.demand import Demands
from bg_ingest.services.erase import Erasing
from bg_ingest.services.export import Exporting
from bg_ingest.services.gaps import Surveying
from bg_ingest.services.grants import Grants
from bg_ingest.services.keyring import Keyring
from bg_ingest.services.looks import Looks
from bg_ingest.services.moments import Moments
from bg_ingest.services.poll import Polling
from bg_ingest.services.quarantine import Quarantine
from bg_ingest.services.read import Reader
from bg_ingest.services.receive import Receiving
from bg_ingest.services.relay import Relay
from bg_ingest.services.rotate import Rotation
from bg_ingest.services.senders import Senders
from bg_ingest.services.steer import Steering
from bg_ingest.services.timeline import RememberedTurns, Timelines
from bg_ingest.services.transition import Transition
from bg_ingest.services.verify import Verifying
from bg_ingest.settings import Settings
from bg_ingest.tracing import UNTRACED, tracing
from bg_ingest.wiring_keys import chosen_sealer
from bg_ingest.wiring_providers import chosen_proofs, chosen_providers
from bg_ingest.wiring_store import chosen_store, chosen_table

SOURCE = "/bg-ingest"
"""What events say they come from."""


class Services:
    """The use cases over one store, one publisher and the providers; there once ``join`` was called."""

    admission: Admission
    keyring: Keyring
    reader: Reader
    completeness: Completeness
    verifying: Verifying
    backfilling: Backfilling
    connecting: Connecting
    steering: Steering
    receiving: Receiving
    quarantine: Quarantine
    erasing: Erasing
    auditing: Auditing
    rotation: Rotation
    exporting: Exporting
    polling: Polling
    turns: Turns
    timelines: Timelines
    grants: Grants
    relay: Relay
    budget: SharedBudget
    demands: Demands
    store: Store
    publisher: Publisher
    clock: Clock
    broker: Broker | None = None
    tempo: Tempo = ALONE
    name: str = "bg-ingest"
    """What this process is called among the owners, before something random."""

    def __init__(self) -> None:
        self.measures = Measures()

    def join(
        self,
        store: Store,
        publisher: Publisher,
        providers: Mapping[str, Provider],
        *,
        sealer: Sealer,
        clock: Clock,
        hints: Hints,
        defaults: Defaults,
        limit: Limit,
        table: str,
        tokens: Tokens | None = None,
        bootstrap: Secret | None = None,
        traces: Tracing = UNTRACED,
        audit_kept: timedelta = timedelta(days=365),
        senders: Senders | None = None,
        proofs: Mapping[str, AbstractSet[Proof]] | None = None,
    ) -> None:
        """Put the use cases together; ``table`` names where sealed things are stored and is bound to them.

        ``tokens`` are those of the issuer and ``bootstrap`` the key that let callers in beside the store's keys;
        ``senders`` may push with a token, for the providers whose ``proofs`` have that.
        """
        measured = self.measures
        providers = {name: MeasuredProvider(provider, measured) for name, provider in providers.items()}
        outbox = MeasuredOutbox(store.outbox, clock)
        measured.add(outbox)
        providers = {name: traces.around_provider(provider) for name, provider in providers.items()}
        hints = traces.around_hints(MeasuredHints(hints, measured, outbox))
        capabilities = {name: provider.capabilities for name, provider in providers.items()}
        shelving = MeasuredShelving(measured, store.readings, sealer, clock, table)
        self.budget = budget = SharedBudget(store.budgets, capabilities, clock, limit, defaults.poll_interval)
        self.demands = Demands(budget, defaults)
        measured.add(BudgetStanding(self.demands))
        providers = {name: Budgeted(provider, budget) for name, provider in providers.items()}
        ingest = MeasuredIngest(measured, store.readings, shelving, clock, hints, capabilities, defaults)
        transition = Transition(store.readings, clock, hints, ingest.standing)
        self.store, self.publisher, self.clock = store, publisher, clock
        self.admission = Admission(store.keys, clock, tokens=tokens, bootstrap=bootstrap)
        self.keyring = Keyring(store.keys, clock)
        moments = Moments(clock)
        self.grants = Grants(store.connections, providers, budget, sealer, clock, table, moments.granted)
        looks = Looks(store.connections, providers, self.grants, ingest, transition, clock, defaults)
        self.relay = Relay(outbox, traces.around_publisher(MeasuredPublisher(publisher, measured, clock)))
        surveying = Surveying(store.readings, store.gaps, clock, hints)
        self.polling = Polling(store, providers, looks, surveying, transition, clock, defaults, self.demands)
        turns = MeasuredTurns(BoundTurns(self.polling), measured)
        self.turns = RememberedTurns(traces.around_turns(turns), moments)
        self.timelines = Timelines(store, self.polling, moments, clock)
        self.reader = Reader(store.readings, clock)
        self.completeness = Completeness(store.readings, store.connections, store.gaps, clock)
        self.connecting = Connecting(store, providers, self.grants, transition, clock, hints, defaults)
        self.steering = Steering(store, self.polling, transition, clock, hints, defaults)
        self.quarantine = Quarantine(store.readings, sealer, providers, clock, hints, table)
        taken = (store, providers, ingest, clock, hints, moments, senders or Senders(), proofs or {})
        self.receiving = MeasuredReceiving(measured, *taken)
        self.verifying = Verifying(store, providers, self.grants)
        self.backfilling = Backfilling(store, clock, hints, defaults)
        self.erasing = Erasing(store, clock, hints)
        self.rotation = Rotation(store.sealed, sealer, table)
        self.auditing = Auditing(store.trail, sealer, clock, table, kept=audit_kept)
        self.exporting = Exporting(store, self.quarantine, self.auditing, clock, SOURCE)


@asynccontextmanager
async def wired(settings: Settings, services: Services, hints: Hints) -> AsyncIterator[None]:
    """Open what the settings choose and join it; close it in reverse."""
    clock = SystemClock()
    publisher, services.broker = _publisher(settings)
    services.tempo = ALONE if settings.store == "sqlite" else SHARED
    services.name = f"{socket.gethostname()}-{os.getpid()}"
    async with (
        tracing(settings.traces_endpoint) as traces,
        chosen_store(settings, clock, services.measures) as store,
        http_client() as http,
    ):
        services.join(
            store,
            publisher,
            chosen_providers(settings, http, clock),
            sealer=await chosen_sealer(settings),
            clock=clock,
            hints=hints,
            defaults=Defaults(
                timedelta(seconds=settings.poll_interval_seconds),
                settings.backfill_days,
                timedelta(seconds=settings.overlap_seconds),
                Reach(timedelta(days=settings.sweep_days), timedelta(days=settings.weekly_sweep_days)),
            ),
            limit=Limit(settings.provider_calls_per_hour),
            table=settings.dynamodb_table or "bg-ingest",
            tokens=_tokens(http, clock, settings.jwt_issuer, settings.jwt_audience, settings.jwt_jwks_url),
            bootstrap=Secret(bootstrap.get_secret_value()) if (bootstrap := settings.api_bootstrap_key) else None,
            senders=_senders(settings, http, clock),
            proofs=chosen_proofs(settings),
            audit_kept=timedelta(days=settings.audit_days),
            traces=traces,
        )
        yield


@asynccontextmanager
async def looked_into(settings: Settings) -> AsyncIterator[tuple[Table, Store]]:
    """Open the store alone, for who wants to know whether it can be used."""
    clock = SystemClock()
    async with chosen_table(settings, clock, Measures()) as table:
        yield table, TableStore(table, clock)


async def create_table(settings: Settings) -> list[str]:
    """Make the table of the settings; return a sentence for each thing found or done."""
    from bg_ingest.adapters.dynamodb import tables

    name = settings.dynamodb_table or "bg-ingest"
    return await tables.create_table(settings.dynamodb_endpoint, settings.aws_region, name)


def _publisher(settings: Settings) -> tuple[Publisher, Broker | None]:
    """Return the publisher, and the actor that keeps it connected where there is something to connect to."""
    if settings.rabbitmq_url is None:
        from bg_ingest.adapters.local.publisher import LocalPublisher

        return LocalPublisher(SOURCE), None
    from bg_ingest.adapters.rabbitmq.publisher import RabbitPublisher

    rabbit = RabbitPublisher(settings.rabbitmq_url.get_secret_value(), SOURCE, queue=settings.rabbitmq_queue)
    return rabbit, rabbit


def _tokens(http: httpx.AsyncClient, clock: Clock, *configured: str | None) -> Tokens | None:
    issuer, audience, keys_url = configured
    if issuer is None or audience is None:
        return None
    from bg_ingest.adapters.tokens import IssuerTokens

    return IssuerTokens(http, clock, issuer=issuer, audience=audience, keys_url=keys_url)


def _senders(settings: Settings, http: httpx.AsyncClient, clock: Clock) -> Senders:
    issuer, audience = settings.webhook_jwt_issuer, settings.webhook_jwt_audience
    return Senders(_tokens(http, clock, issuer, audience, settings.webhook_jwt_jwks_url), settings.webhook_jwt_scope)
