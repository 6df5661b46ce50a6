"""Any number of users, each with a sensor of five minutes, in a store and at a provider that answers at once."""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

from bg_ingest.adapters.sealing import AesGcmSealer
from bg_ingest.adapters.sqlite.file import ItemFile
from bg_ingest.domain.call_budget import ProviderLimit
from bg_ingest.domain.commits import ConnectionSummary, Head
from bg_ingest.domain.connections import Connection, ConnectionState, PollDefaults
from bg_ingest.domain.grants import Credentials, Grant, Secret, SecretBytes
from bg_ingest.domain.ids import ConnectionId, UserId
from bg_ingest.domain.readings import Device, Flag, Reading, StoredReading, Unreadable
from bg_ingest.domain.schedule import Rhythm
from bg_ingest.domain.windows import Window
from bg_ingest.observability.observer import Metrics
from bg_ingest.observability.registry import MetricsRegistry
from bg_ingest.ports import AccountData, Answers, Capabilities, Clock, ConnectStep, Page, Priority
from bg_ingest.ports.table import Item, Key, Put, Table
from bg_ingest.providers.dexcom.oauth import Tokens, parse_tokens
from bg_ingest.services import Services
from bg_ingest.services.connections.grant_storage import GrantSealer
from bg_ingest.store import LAYOUT, Store, keys
from bg_ingest.store.connections import encode_connection, encode_directory_row
from bg_ingest.store.grants import encode_grant
from bg_ingest.store.head import encode_head, encode_progress
from bg_ingest.wiring import build_services
from bg_ingest.wiring.broker import embedded_broker
from workers.build import Workers

PROVIDER, REGION, APP = "dexcom", "us", "a-crowd"
KEY = bytes(range(32))
SEALS = GrantSealer(AesGcmSealer([KEY]), "bg-ingest")
CADENCE = timedelta(minutes=5)
DELAY = timedelta(seconds=30)
INTERVAL = timedelta(minutes=15)
FOREVER = timedelta(days=3650)
ROWS_PER_TRANSACTION = 25
"""Users written in one transaction, four rows each."""


def person(number: int) -> ConnectionId:
    return ConnectionId(UserId(f"person-{number:06}"), PROVIDER)


def device(connection: ConnectionId) -> Device:
    return Device(PROVIDER, f"account-{connection.user}", "ab" * 32, "iOS", "g7")


class UnsyncedItemFile(ItemFile):
    """SQLite without waits for the disk, because a half-filled store is never used."""

    def __init__(self, name: str, now: Callable[[], float]) -> None:
        super().__init__(name, now)
        self._database.execute("PRAGMA synchronous = OFF")


def fill_store(file: Path, people: int, begin: datetime, slowdown: float) -> None:
    """Write connected users into a new store. Their next polls fall due evenly from ``begin`` on."""
    file.parent.mkdir(parents=True, exist_ok=True)
    items = UnsyncedItemFile(str(file), begin.timestamp)
    items.transact([Put(keys.META, LAYOUT)])
    for start in range(0, people, ROWS_PER_TRANSACTION):
        several = range(start, min(start + ROWS_PER_TRANSACTION, people))
        rows = [row for number in several for row in rows_of(number, people, begin, slowdown)]
        items.transact([Put(key, item) for key, item in rows])
    items.close()


def rows_of(number: int, people: int, begin: datetime, slowdown: float) -> Iterator[tuple[Key, Item]]:
    """Yield the stored rows of one user."""
    connection_id = person(number)
    newest = _last_read(connection_id, begin + INTERVAL * slowdown * (number / people), begin, slowdown)
    connection = Connection(
        id=connection_id,
        state=ConnectionState.ACTIVE,
        generation="first",
        region=REGION,
        app=APP,
        connected_at=begin - timedelta(days=30),
        provider_account=f"account-{connection_id.user}",
        watermark=newest,
        newest_reading_at=newest,
        cadence_seconds=300,
        swept_at=begin,
        last_outcome="read",
        outcome_at=begin,
    )
    grant = Grant(id=connection_id, generation="first", version=1, sealed=b"", refreshed_at=begin)
    credentials = Tokens(
        Secret(f"{connection_id.user} {newest.timestamp()}"), Secret("refresh"), begin + FOREVER
    ).to_credentials()
    reading = StoredReading(Reading(newest, 110, Flag.OK, device(connection_id)), newest + DELAY, 1)
    head = Head(
        connection_id.user,
        1,
        newest + DELAY,
        reading,
        {PROVIDER: ConnectionSummary(ConnectionState.ACTIVE, 300, 30, 900)},
        published=1,
    )
    yield keys.head(connection_id.user), encode_head(head) | encode_progress(connection)
    yield keys.connection(connection_id), encode_connection(connection)
    yield keys.grant(connection_id), encode_grant(SEALS.seal(grant, credentials))
    listed = encode_directory_row(connection)
    assert listed is not None
    yield keys.directory(connection_id), listed


def _last_read(connection_id: ConnectionId, due: datetime, begin: datetime, slowdown: float) -> datetime:
    """Return the newest reading of a user with the next poll due at that time or soon after."""
    rhythm = Rhythm(INTERVAL, CADENCE, DELAY, connection_id.jitter, slowdown)
    for later in range(1000):
        for step in (rhythm.step - CADENCE, rhythm.step):
            newest = (due + timedelta(seconds=later)).replace(microsecond=0) - step - DELAY
            if newest <= begin - DELAY and rhythm.step_after(newest) == step:
                return newest
    raise ValueError("no reading makes a poll due at that time")


class CrowdProvider:
    """The port Provider: each access token is the name of its user, and the sensors never pause."""

    name = PROVIDER

    def __init__(self, clock: Clock, asked: Callable[[], None] = lambda: None) -> None:
        self.capabilities = Capabilities(
            regions=(REGION,),
            default_region=REGION,
            initial_delays={REGION: DELAY},
            cadence=CADENCE,
            longest_window=timedelta(days=30),
            app=APP,
        )
        self._clock = clock
        self._asked = asked

    async def connect(self, region: str, answers: Answers) -> ConnectStep:
        raise NotImplementedError

    def now(self, region: str) -> datetime:
        return self._clock.now()

    def parse_credentials(self, content: SecretBytes) -> Credentials:
        return parse_tokens(content).to_credentials()

    async def renew(self, region: str, credentials: Credentials) -> Credentials:
        raise NotImplementedError

    async def available(self, region: str, credentials: Credentials, priority: Priority) -> AccountData:
        raise NotImplementedError

    def translate_record(self, provider_account: str, raw: bytes, received_at: datetime) -> Reading | Unreadable:
        raise NotImplementedError

    async def readings(self, region: str, credentials: Credentials, window: Window, priority: Priority) -> Page:
        del region, priority
        self._asked()
        user, phase = parse_tokens(credentials.content).access.reveal().split()
        worn = device(ConnectionId(UserId(user), PROVIDER))
        shown = min(window.end, self._clock.now() - DELAY)
        newest = shown - timedelta(seconds=(shown.timestamp() - float(phase)) % CADENCE.total_seconds())
        newest = newest.replace(microsecond=0) + timedelta(seconds=newest.microsecond >= 500_000)
        readings = []
        while newest >= window.start:
            readings.append(Reading(newest, 70 + int(newest.timestamp()) // 300 % 90, Flag.OK, worn))
            newest -= CADENCE
        return Page(worn.provider_account, tuple(reversed(readings)))


def build_process(
    table: Table, crowd: CrowdProvider, clock: Clock, calls_per_hour: int, defaults: PollDefaults | None = None
) -> tuple[Services, Workers]:
    """Return one process's services and actors, which share the limit with others over the same table."""
    workers = Workers()
    services = build_services(
        Store(table, clock),
        embedded_broker(),
        {PROVIDER: crowd},
        metrics=Metrics(MetricsRegistry(), clock),
        sealer=AesGcmSealer([KEY]),
        clock=clock,
        wakeups=workers,
        defaults=defaults or PollDefaults(),
        limit=ProviderLimit(calls_per_hour),
        table="bg-ingest",
    )
    return services, workers
