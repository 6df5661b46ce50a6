"""Life of users and their sensors under faults and repeated restarts of the service, in virtual time."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from itertools import pairwise

import anyio
import msgspec

from bg_ingest.domain.connections import ConnectionState, PollDefaults
from bg_ingest.domain.gaps import Gap, missing_count
from bg_ingest.domain.ids import ConnectionId, UserId, shard_of
from bg_ingest.domain.verification import Verification
from bg_ingest.domain.windows import Window
from bg_ingest.services import Services
from bg_ingest.services.polling.gaps import ALL_TIME
from bg_ingest.simulator import SimulatorOptions
from bg_ingest.simulator.active import ActiveFault
from bg_ingest.simulator.faults import Fault as TroubleFault
from bg_ingest.simulator.faults import Late, Revised
from tests.fakes.faults import Fault, FaultyCalls
from tests.fakes.poll_listener import RecordingListener, lasting_view
from tests.harness.service import PROVIDER, ServiceHarness, open_service
from tests.long.soak.trouble import DAY, HOUR, MINUTE, Trouble
from workers.scheduler import Scheduler


class Figures(msgspec.Struct):
    """Results of a life."""

    restarts: int = 0
    kills: int = 0
    faults: int = 0
    revocations: int = 0
    reconnects: int = 0
    compared: int = 0
    differences: int = 0
    open_gaps: int = 0
    healed_gaps: int = 0
    not_the_simulators: int = 0
    """Open gaps without missing readings at the provider."""
    not_known: int = 0
    """Missing readings of the provider without an open gap."""
    polls: int = 0
    met: dict[str, int] = {}
    """Calls affected by each kind of fault, and numbers of late and revised series of readings."""

    def count(self, kind: str, times: int = 1) -> None:
        if times:
            self.met[kind] = self.met.get(kind, 0) + times


class SoakLife:
    """One run; ``live`` and then ``judge``."""

    def __init__(self, service: ServiceHarness, seed: int, people: int, latest: timedelta) -> None:
        self.service = service
        self.figures = Figures()
        self._users = {f"user-{number}": f"SandboxUser{number}" for number in range(1, people + 1)}
        self._trouble = Trouble(seed, list(self._users.values()), latest)

    async def live(self, troubled: timedelta, calm: timedelta) -> None:
        """Live under faults, then without faults until all delayed readings have arrived."""
        for user, person in self._users.items():
            await self.service.connect(user, person)
        async with anyio.create_task_group() as group:
            group.start_soon(self._faults)
            group.start_soon(self._uploads)
            group.start_soon(self._reconnects)
            group.start_soon(self._revocations)
            await self._restarts(self.service.clock.now() + troubled)
            group.cancel_scope.cancel()
        self._clear_calls()
        async with self._serving(killed=False), anyio.create_task_group() as group:
            group.start_soon(self._reconnects)  # a refusal is confirmed only after 17 hours
            await anyio.sleep(calm.total_seconds())
            group.cancel_scope.cancel()

    async def check(self) -> None:
        """Compare all readings with the provider, and every gap with the provider's missing readings."""
        for user, person in self._users.items():
            await self._check_user(ConnectionId(UserId(user), PROVIDER), person)

    async def _check_user(self, connection: ConnectionId, person: str) -> None:
        now = self.service.clock.now()
        stored = await self.service.stored_readings(connection.user)
        first = stored[0].reading.measured_at
        for each in await self._verify(connection, first, now):
            self.figures.compared += each.compared
            self.figures.differences += len(each.differences)
        ledgers = await self.service.services.store.gaps.read_months(connection, ALL_TIME.start, ALL_TIME.end)
        gaps = [gap for ledger in ledgers for gap in ledger.gaps]
        checked_until = now - 3 * HOUR
        open_gaps = {_around(gap) for gap in gaps if gap.healed_at is None and gap.after < checked_until}
        at = [at for at, _ in self.service.true_values(person, first, now)]
        true = {(a, b) for a, b in pairwise(at) if missing_count(a, b, 300) and a < checked_until}
        self.figures.open_gaps += len(open_gaps)
        self.figures.healed_gaps += sum(gap.healed_at is not None for gap in gaps)
        self.figures.not_the_simulators += len(open_gaps - true)
        self.figures.not_known += len({(a, b) for a, b in true if b < checked_until} - open_gaps)

    async def _verify(self, connection: ConnectionId, first: datetime, now: datetime) -> list[Verification]:
        found, verifying = [], self.service.services.verifier
        while first < now:
            end = min(now, first + 30 * DAY)
            one = await verifying.verify(connection, Window(first, end))
            assert one is not None, f"{connection} was not read"
            found.append(one)
            first = end
        return found

    async def _restarts(self, until: datetime) -> None:
        while self.service.clock.now() < until:
            killed = self._trouble.is_killed()
            async with self._serving(killed=killed):
                await anyio.sleep(min(self._trouble.restart_after(), until - self.service.clock.now()).total_seconds())
            self.figures.restarts += 1
            self.figures.kills += killed
            await anyio.sleep(self._trouble.pause().total_seconds())

    @asynccontextmanager
    async def _serving(self, *, killed: bool) -> AsyncIterator[None]:
        """Run a process without state of earlier ones. After its kill, it makes no further write."""
        dead = False
        table = FaultyCalls(self.service.table, lambda _: Fault.BEFORE if dead else None)
        services, _ = self.service.new_process(table)
        scheduler = Scheduler(services.poller, self.service.clock, lasting_view(), RecordingListener())
        async with anyio.create_task_group() as group:
            await group.start(scheduler)
            group.start_soon(self._schedule_all, scheduler, services)
            yield
            if killed:
                dead = True
            else:
                services.grants.close(12.0)
                await scheduler.finish({shard_of(UserId(user)) for user in self._users})
            group.cancel_scope.cancel()

    async def _schedule_all(self, scheduler: Scheduler, services: Services) -> None:
        """Poll every connection at its due times, including connections made in the meantime."""
        while True:
            for user in self._users:
                scheduler.schedule(ConnectionId(UserId(user), PROVIDER), epoch=1, due=self.service.clock.now())
            await anyio.sleep((15 * MINUTE).total_seconds())

    async def _faults(self) -> None:
        while True:
            await anyio.sleep(self._trouble.next_after().total_seconds())
            fault = self._trouble.draw(self.service.clock.now())
            self.service.simulator.add_fault(fault)
            self.figures.faults += 1
            if isinstance(fault, Late | Revised):
                self.figures.count(kind_of(fault))
            self._forget_past_calls()

    async def _uploads(self) -> None:
        while True:
            for fault in self._trouble.uploads(self.service.clock.now()):
                self.service.simulator.add_fault(fault)
            await anyio.sleep((7 * DAY).total_seconds())

    async def _revocations(self) -> None:
        while True:
            await anyio.sleep(self._trouble.revokes_after().total_seconds())
            self.service.simulator.revoke(self._trouble.revokes())
            self.figures.revocations += 1

    async def _reconnects(self) -> None:
        while True:
            await anyio.sleep(HOUR.total_seconds())
            await self._reconnect()

    async def _reconnect(self) -> None:
        """Reconnect users with a lost grant (a refresh with a lost reply, or revoked)."""
        for user, person in self._users.items():
            found = await self.service.services.store.connections.get(ConnectionId(UserId(user), PROVIDER))
            if found is None or found.state is ConnectionState.REAUTHORIZATION_REQUIRED:
                self.figures.reconnects += 1
                await self.service.connect(user, person)

    def _forget_past_calls(self) -> None:
        """Drop faults of past calls. They affect no further call, and each call would still check them."""
        now, faults = self.service.clock.now(), self.service.simulator.faults
        for number, active in list(faults.all.items()):
            until = getattr(active.fault, "until", None)
            if until is not None and until < now:
                self._remove(number, active)

    def _clear_calls(self) -> None:
        faults = self.service.simulator.faults
        for number, active in list(faults.all.items()):
            if hasattr(active.fault, "endpoint"):
                self._remove(number, active)

    def _remove(self, number: int, active: ActiveFault) -> None:
        self.figures.count(kind_of(active.fault), active.met)
        self.service.simulator.faults.remove(number)


def kind_of(fault: TroubleFault) -> str:
    return str(fault.__struct_config__.tag)


def _around(gap: Gap) -> tuple[datetime, datetime | None]:
    return gap.after, gap.before


@asynccontextmanager
async def run_life(
    *, seed: int, people: int, troubled: timedelta, calm: timedelta, latest: timedelta, defaults: PollDefaults
) -> AsyncIterator[Figures]:
    """Run a life and return its results."""
    options = SimulatorOptions(seed=seed, users=people, days_back=10, delay_seconds=3600)
    async with open_service(over_http=True, simulated=options, defaults=defaults) as service:
        life = SoakLife(service, seed, people, latest)
        await life.live(troubled, calm)
        await life.check()
        life.figures.polls = sum(service.simulator.calls.values())
        yield life.figures
