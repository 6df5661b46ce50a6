"""A poller in front of a provider that answers anything, and a judge that knows what may be stored of it."""

import traceback
from collections.abc import Sequence
from random import Random

import httpx
import msgspec

from bg_ingest.adapters.local.publisher import LocalPublisher
from bg_ingest.adapters.sealing import KeyRing
from bg_ingest.adapters.sqlite import open_table
from bg_ingest.adapters.table.store import TableStore
from bg_ingest.domain.budget import Limit
from bg_ingest.domain.columns import seconds
from bg_ingest.domain.connections import Connection, Defaults, State
from bg_ingest.domain.events import Change, ReadingsRecorded, ReadingsRevised
from bg_ingest.domain.grants import Credentials, Secret
from bg_ingest.domain.ids import ConnectionId, UserId
from bg_ingest.domain.outcomes import Ending
from bg_ingest.domain.readings import Recorded
from bg_ingest.domain.turns import Plan
from bg_ingest.providers.dexcom import Dexcom
from bg_ingest.providers.http import http_client
from bg_ingest.wiring import Services
from tests.contracts.values import stepping
from tests.fakes.clock import SetClock
from tests.fuzz.decoder import Decoded, decoded, plain, records_of
from tests.fuzz.mutations import NOW, mutated
from tests.providers.dexcom.answers import OPTIONS, USER
from tests.reading import recorded

PAGES_A_USER = 100
"""Then another user begins: the same story every time would grow slow, and know everything."""


class Finding(msgspec.Struct, frozen=True):
    """A page that did what no page may do."""

    seed: int
    what: str
    body: bytes


class Verdict(msgspec.Struct):
    """What came of many pages; it should find nothing."""

    pages: int = 0
    endings: dict[str, int] = {}
    stored: int = 0
    revised: int = 0
    set_aside: int = 0
    findings: list[Finding] = []


class Hearing:
    """The port Hints: hears what each commit told."""

    def __init__(self) -> None:
        self.changes: list[Change] = []

    def look(self, connection: ConnectionId) -> None: ...

    def told(self, changes: Sequence[Change]) -> None:
        self.changes += changes


class FuzzedProvider:
    """One process that polls; ``page`` is what the provider answers next."""

    def __init__(self, services: Services, hearing: Hearing) -> None:
        self.services = services
        self.hearing = hearing
        self.page = b""

    async def look(self, user: UserId) -> tuple[Ending, int]:
        """Return how a look ended, and how many records it set aside."""
        turn = await self.services.polling.turn(ConnectionId(user, "dexcom"), 1, Plan(), asked=True)
        return turn.outcome.ending, turn.outcome.quarantined

    async def connect(self, user: UserId) -> None:
        connection = Connection(
            id=ConnectionId(user, "dexcom"),
            state=State.ACTIVE,
            generation="first",
            region="us",
            app="our-app",
            connected_at=NOW,
            provider_account=account_of(user),
        )
        credentials = Credentials(Secret("access"), Secret("refresh"), NOW.replace(year=NOW.year + 1))
        grant = self.services.grants.first(connection.id, connection.generation, credentials)
        await self.services.store.readings.commit(stepping(None, None, connection, grant=grant))

    async def stored(self, user: UserId) -> list[Recorded]:
        return await recorded(self.services.store.readings, user)

    async def connection(self, user: UserId) -> Connection:
        found = await self.services.store.connections.get(ConnectionId(user, "dexcom"))
        assert found is not None
        return found


def account_of(user: UserId) -> str:
    """An account belongs to one user."""
    return user.encode().hex().rjust(64, "0")


async def fuzz(seeds: range) -> Verdict:
    """Give a poller one mutated page for each seed, and judge what it stored of it."""
    verdict, hearing, clock = Verdict(), Hearing(), SetClock(NOW)
    provider = FuzzedProvider(Services(), hearing)
    transport = httpx.MockTransport(lambda _: httpx.Response(200, content=provider.page))
    async with open_table(None, clock) as table, http_client(transport) as http:
        provider.services.join(
            TableStore(table, clock),
            LocalPublisher("/bg-ingest"),
            {"dexcom": Dexcom(OPTIONS, http, clock)},
            sealer=KeyRing([bytes(32)]),
            clock=clock,
            hints=hearing,
            defaults=Defaults(backfill_days=0),
            limit=Limit(10**9),
            table="fuzz",
        )
        for seed in seeds:
            user = UserId(f"user-{seed // PAGES_A_USER}")
            if seed % PAGES_A_USER == 0 or seed == seeds.start:
                await provider.connect(user)
            provider.page = mutated(Random(seed)).replace(USER.encode(), account_of(user).encode())
            what = await _judged(provider, user, verdict)
            if what:
                verdict.findings.append(Finding(seed, what, provider.page))
    return verdict


async def _judged(provider: FuzzedProvider, user: UserId, verdict: Verdict) -> str | None:
    """Return what is wrong, if anything is."""
    before = await provider.connection(user)
    provider.hearing.changes.clear()
    try:
        ending, set_aside = await provider.look(user)
    except Exception:  # noqa: BLE001 - exactly what must not happen
        return traceback.format_exc()
    after = await provider.connection(user)
    told = [
        each
        for change in provider.hearing.changes
        if isinstance(change.what, ReadingsRecorded | ReadingsRevised)
        for each in change.what.readings
    ]
    verdict.pages += 1
    verdict.endings[ending] = verdict.endings.get(ending, 0) + 1
    verdict.stored += len(told)
    verdict.revised += sum(1 for each in told if each.earlier)
    verdict.set_aside += set_aside
    known = {shape(each) for each in told}
    if invented := known - {found for each in records_of(provider.page) if (found := decoded(each))}:
        return f"stored what no record says: {invented}"
    return _watermark(before, after, told) or await _unread(provider, user, after, ending)


def _watermark(before: Connection, after: Connection, told: list[Recorded]) -> str | None:
    """The watermark stands where it stood or on a stored reading; after a long silence at the end of the backfill."""
    if after.watermark == before.watermark:
        return None
    if after.watermark is None or (before.watermark and after.watermark < before.watermark):
        return "the watermark fell"
    if after.watermark > NOW:
        return "the watermark is in the future"
    stored = {each.reading.measured_at for each in told}
    if after.watermark == NOW and max(stored, default=NOW) > NOW:
        return None  # a sensor's clock is ahead: that far and no further
    if after.watermark not in stored and not (after.backfill and after.watermark == after.backfill.end):
        return "the watermark moved to where nothing was stored"
    return None


async def _unread(provider: FuzzedProvider, user: UserId, after: Connection, ending: Ending) -> str | None:
    """What nobody could misunderstand is stored, at the latest when the watermark is beyond it."""
    clear = {found for each in records_of(provider.page) if (found := plain(each, seconds(NOW)))}
    if ending not in (Ending.READ, Ending.NOTHING_NEW) or not clear:
        return None
    there = {shape(each)[:1] + shape(each)[3:] for each in await provider.stored(user)}
    lost = [each for each in clear if (each.second, each.transmitter, each.display) not in there]
    return f"the watermark is at {after.watermark}, and these were not stored: {lost}" if lost else None


def shape(each: Recorded) -> Decoded:
    r = each.reading
    return Decoded(seconds(r.measured_at), r.glucose_mg_dl, str(r.flag), r.device.transmitter, r.device.display)
