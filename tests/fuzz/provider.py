"""Poller of a provider that answers anything, and an oracle for the readings that may be stored."""

import traceback
from random import Random

import httpx
import msgspec

from bg_ingest.adapters.sealing import AesGcmSealer
from bg_ingest.adapters.sqlite import open_table
from bg_ingest.domain.call_budget import ProviderLimit
from bg_ingest.domain.changes import ReadingsRecorded, ReadingsRevised
from bg_ingest.domain.connections import Connection, ConnectionState, PollDefaults
from bg_ingest.domain.grants import Secret
from bg_ingest.domain.ids import ConnectionId, UserId
from bg_ingest.domain.polling import Outcome, PollState
from bg_ingest.domain.readings import StoredReading
from bg_ingest.domain.segment_codec import to_epoch_seconds
from bg_ingest.observability.observer import Metrics
from bg_ingest.observability.registry import MetricsRegistry
from bg_ingest.providers.dexcom.client import Dexcom
from bg_ingest.providers.dexcom.oauth import Tokens
from bg_ingest.providers.http_client import http_client
from bg_ingest.services import Services
from bg_ingest.store import Store
from bg_ingest.wiring import build_services
from bg_ingest.wiring.broker import embedded_broker
from tests.fakes.clock import SetClock
from tests.fakes.wakeups import RecordingWakeups
from tests.fuzz.decoder import Decoded, decode_record, permitted_records, plain, records_of
from tests.fuzz.mutations import NOW, mutate
from tests.harness.dexcom_answers import OPTIONS, USER
from tests.harness.sample_values import connection_commit
from tests.harness.stored_readings import read_all

PAGES_A_USER = 100
"""Pages per user. Another user begins then, because a long history is slow and contains every reading already."""


class Finding(msgspec.Struct, frozen=True):
    """A page with a forbidden effect."""

    seed: int
    what: str
    body: bytes


class FuzzVerdict(msgspec.Struct):
    """Summary of many pages; it should have no findings."""

    pages: int = 0
    outcomes: dict[str, int] = {}
    stored: int = 0
    revised: int = 0
    quarantined: int = 0
    findings: list[Finding] = []


class FuzzedProvider:
    """One process that polls; ``page`` is the provider's next answer."""

    def __init__(self, services: Services, hearing: RecordingWakeups) -> None:
        self.services = services
        self.wakeups = hearing
        self.page = b""

    async def poll(self, user: UserId) -> tuple[Outcome, int]:
        """Return the outcome of a poll and the number of quarantined records."""
        report = await self.services.poller.poll(ConnectionId(user, "dexcom"), 1, PollState(), requested=True)
        return report.result.outcome, report.result.quarantined

    async def connect(self, user: UserId) -> None:
        connection = Connection(
            id=ConnectionId(user, "dexcom"),
            state=ConnectionState.ACTIVE,
            generation="first",
            region="us",
            app="our-app",
            connected_at=NOW,
            provider_account=account_of(user),
        )
        credentials = Tokens(Secret("access"), Secret("refresh"), NOW.replace(year=NOW.year + 1)).to_credentials()
        grant = self.services.grants.seal_new(connection.id, connection.generation, credentials)
        await self.services.store.commits.write(connection_commit(None, None, connection, grant=grant))

    async def stored(self, user: UserId) -> list[StoredReading]:
        return await read_all(self.services.store.readings, user)

    async def connection(self, user: UserId) -> Connection:
        found = await self.services.store.connections.get(ConnectionId(user, "dexcom"))
        assert found is not None
        return found


def account_of(user: UserId) -> str:
    """An account belongs to one user."""
    return user.encode().hex().rjust(64, "0")


async def fuzz(seeds: range) -> FuzzVerdict:
    """Poll one mutated page for each seed, and check the stored readings."""
    verdict, hearing, clock = FuzzVerdict(), RecordingWakeups(), SetClock(NOW)
    provider: FuzzedProvider
    transport = httpx.MockTransport(lambda _: httpx.Response(200, content=provider.page))
    async with open_table(None, clock) as table, http_client(transport) as http:
        services = build_services(
            Store(table, clock),
            embedded_broker(),
            {"dexcom": Dexcom(OPTIONS, http, http, clock)},
            metrics=Metrics(MetricsRegistry(), clock),
            sealer=AesGcmSealer([bytes(32)]),
            clock=clock,
            wakeups=hearing,
            defaults=PollDefaults(backfill_days=0),
            limit=ProviderLimit(10**9),
            table="fuzz",
        )
        provider = FuzzedProvider(services, hearing)
        for seed in seeds:
            user = UserId(f"user-{seed // PAGES_A_USER}")
            if seed % PAGES_A_USER == 0 or seed == seeds.start:
                await provider.connect(user)
            provider.page = mutate(Random(seed)).replace(USER.encode(), account_of(user).encode())
            what = await _poll_and_check(provider, user, verdict)
            if what:
                verdict.findings.append(Finding(seed, what, provider.page))
    return verdict


async def _poll_and_check(provider: FuzzedProvider, user: UserId, verdict: FuzzVerdict) -> str | None:
    """Return a description of the fault, or None."""
    before = await provider.connection(user)
    provider.wakeups.changes.clear()
    try:
        outcome, quarantined = await provider.poll(user)
    except Exception:  # noqa: BLE001 - any exception is a finding
        return traceback.format_exc()
    after = await provider.connection(user)
    published = [
        each
        for change in provider.wakeups.changes
        if isinstance(change.data, ReadingsRecorded | ReadingsRevised)
        for each in change.data.readings
    ]
    verdict.pages += 1
    verdict.outcomes[outcome] = verdict.outcomes.get(outcome, 0) + 1
    verdict.stored += len(published)
    verdict.revised += sum(1 for each in published if each.earlier)
    verdict.quarantined += quarantined
    known = {shape(each) for each in published}
    if invented := known - {found for each in permitted_records(provider.page) if (found := decode_record(each))}:
        return f"stored what no record says: {invented}"
    return _watermark(before, after, published) or await _unread(provider, user, after, outcome)


def _watermark(before: Connection, after: Connection, published: list[StoredReading]) -> str | None:
    """The watermark is unchanged or at a stored reading; after a long silence it is at the end of the backfill."""
    if after.watermark == before.watermark:
        return None
    if after.watermark is None or (before.watermark and after.watermark < before.watermark):
        return "the watermark fell"
    if after.watermark > NOW:
        return "the watermark is in the future"
    stored = {each.reading.measured_at for each in published}
    if after.watermark == NOW and max(stored, default=NOW) > NOW:
        return None  # a sensor's clock may be ahead by this much
    if after.watermark not in stored and not (after.backfill and after.watermark == after.backfill.end):
        return "the watermark moved to where nothing was stored"
    return None


async def _unread(provider: FuzzedProvider, user: UserId, after: Connection, outcome: Outcome) -> str | None:
    """Unambiguous records are stored, at the latest when the watermark is beyond them."""
    clear = {found for each in records_of(provider.page) if (found := plain(each, to_epoch_seconds(NOW)))}
    if outcome not in (Outcome.READ, Outcome.NOTHING_NEW) or not clear:
        return None
    there = {shape(each)[:1] + shape(each)[3:] for each in await provider.stored(user)}
    lost = [each for each in clear if (each.second, each.transmitter, each.display) not in there]
    return f"the watermark is at {after.watermark}, and these were not stored: {lost}" if lost else None


def shape(each: StoredReading) -> Decoded:
    r = each.reading
    return Decoded(
        to_epoch_seconds(r.measured_at), r.glucose_mg_dl, str(r.flag), r.device.transmitter, r.device.display
    )
