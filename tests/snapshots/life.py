"""Scripted life of a service in virtual time, without actors: every step takes place at a fixed instant.

Ada connects, is polled, gets pushed readings, a revision, unreadable records and a gap. Ben connects and is erased;
Cyd is erased in part; Eva only starts to connect. Two replicas hand shards over.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, NamedTuple

import anyio

from bg_ingest.domain.access import Scope
from bg_ingest.domain.commits import plan_erasure
from bg_ingest.domain.connections import PollDefaults
from bg_ingest.domain.ids import ConnectionId, UserId
from bg_ingest.domain.ownership import Lease, Owner
from bg_ingest.ports.table import Item, Key
from bg_ingest.simulator import SimulatorOptions
from bg_ingest.simulator.faults import Late
from bg_ingest.store import check_layout
from tests.harness.connected_user import ADA, ConnectedUser
from tests.harness.service import PROVIDER, open_service
from tests.harness.table_dump import read_all_items
from tests.harness.webhook_sender import envelope, record

MINUTE = timedelta(minutes=1)
NAMES = {"ada": "SandboxUser1", "ben": "SandboxUser2", "cyd": "SandboxUser3", "eva": "SandboxUser4"}


class Stage(NamedTuple):
    """Items written and items deleted since the previous stage; deleted ones have no attributes."""

    written: dict[Key, Item]
    deleted: dict[Key, Item]


@dataclass
class Life:
    """Service in the middle of its life, and the random texts and bytes that this run made."""

    home: ConnectedUser
    known: dict[str | bytes, str] = field(default_factory=dict)
    stages: dict[str, Stage] = field(default_factory=dict)
    _before: dict[Key, Item] = field(default_factory=dict)

    async def keep_stage(self, name: str) -> None:
        """Keep the changes of the table since the previous stage under a name."""
        table = await read_all_items(self.home.service.table)
        written = {key: item for key, item in table.items() if self._before.get(key) != item}
        self.stages[name] = Stage(written, {key: {} for key in self._before if key not in table})
        self._before = table


@asynccontextmanager
async def lived() -> AsyncIterator[Life]:
    """Play the script to its end."""
    async with open_service(
        over_http=True, simulated=SimulatorOptions(cadence_minutes=15), defaults=PollDefaults(backfill_days=1)
    ) as opened:
        life = Life(ConnectedUser(opened))
        await check_layout(opened.table)
        await _connect_and_poll(life)
        await _push(life)
        await life.keep_stage("polled and pushed")
        await _open_gaps(life)
        await _keys_and_audit(life)
        await life.keep_stage("gap, API keys, audit")
        await _erase(life)
        await life.keep_stage("erasures, one connect begun")
        await _hand_over(life)
        await life.keep_stage("hand-over, requests")
        yield life


async def _polls(life: Life, times: int) -> None:
    for _ in range(times):
        await anyio.sleep(15 * 60)
        await life.home.poll_until_idle(await life.home.poll(requested=True))


async def _connect_and_poll(life: Life) -> None:
    await life.home.connect()
    await life.home.poll_until_idle(await life.home.poll())
    await _polls(life, 2)


async def _push(life: Life) -> None:
    opened = life.home.service
    device = (await opened.stored_readings("ada"))[-1].reading.device
    newest = (await opened.stored_readings("ada"))[-1].reading
    common: dict[str, Any] = {"transmitterId": device.transmitter, "displayDevice": device.display}
    pushed = [
        record(newest.measured_at, newest.glucose_mg_dl + 7, **common),
        record(newest.measured_at + MINUTE, 30, **common),
        record(newest.measured_at + 2 * MINUTE, 6.5, **common | {"unit": "mmol/L"}),
        record(newest.measured_at + 3 * MINUTE, "garbage", **common),
        record(newest.measured_at, systemTime="yesterday", **common),
    ]
    answer = await opened.push("ada", envelope(device.provider_account, pushed))
    assert answer.status_code == 202, answer.text
    assert answer.json() == {"stored": 2, "duplicates": 0, "revised": 1, "quarantined": 2}


async def _open_gaps(life: Life) -> None:
    opened = life.home.service
    now = opened.clock.now()
    for start, shown in ((10, 300), (150, 90 * 1440)):  # the first gap closes, the second stays
        late = Late(start=now + start * MINUTE, end=now + (start + 50) * MINUTE, shown_at=now + shown * MINUTE)
        opened.simulator.add_fault(late)
    await _polls(life, 40)
    path = f"/api/users/ada/connections/{PROVIDER}"
    assert (await opened.api.get(f"{path}/timeline")).status_code == 200
    changed = await opened.api.patch(f"{path}/worker", json={"poll_interval_seconds": 600, "backfill_days": 2})
    assert changed.status_code == 200, changed.text


async def _keys_and_audit(life: Life) -> None:
    services = life.home.services
    ends_at = life.home.service.clock.now() + timedelta(days=30)
    users = [UserId("ada"), UserId("ben")]
    made = [
        await services.api_keys.create("limited", [Scope.READINGS_READ, Scope.ADMIN], users=users, ends_at=ends_at),
        await services.api_keys.create("revoked", list(Scope)),
        await services.api_keys.create("own", list(Scope)),
    ]
    for number, key in enumerate(made, start=1):
        life.known[key.key.id] = f"<key {number}>"
        life.known[key.key.digest] = f"<digest of key {number}>"
    await anyio.sleep(60)
    life.home.service.api.headers["Authorization"] = f"Bearer {made[2].text.reveal()}"
    await services.api_keys.revoke(made[1].key.id)
    await services.store.keys.set_last_used(made[0].key.id, life.home.service.clock.now())
    await services.audit_log.flush()


async def _erase(life: Life) -> None:
    opened, store = life.home.service, life.home.services.store
    for user in ("ben", "cyd"):
        answer = await opened.connect(user, NAMES[user])
        assert answer.status_code == 200, answer.text
    await life.keep_stage("three connected")
    gone = await opened.api.delete("/api/users/ben")
    assert gone.status_code == 200, gone.text
    cyd = UserId("cyd")
    head, connections = await store.readings.head(cyd), await store.connections.list_for_user(cyd)
    await store.erasures.begin(plan_erasure(cyd, head, connections, opened.clock.now()))
    await opened.authorize("eva", NAMES["eva"])
    await life.home.services.audit_log.flush()


async def _hand_over(life: Life) -> None:
    """Shards of ada's users go to a first replica, some of them on to a second; requests go to each address."""
    store, home = life.home.services.store, life.home
    ada, ben = home.shard_of("ada"), home.shard_of("ben")
    await store.inbox.request_poll(ADA)
    await anyio.sleep(1)
    taken = await store.ownership.take([Lease(ada), Lease(ben)], "first")
    await store.ownership.register(Owner("first", 3, demand={"dexcom#us": 1.5}))
    await store.ownership.snapshot()
    await store.inbox.request_poll(ADA)
    await store.ownership.release([lease for lease in taken if lease.shard == ben])
    board = await store.ownership.snapshot()
    await store.ownership.take([board.leases[ben]], "second")
    await store.ownership.register(Owner("second", 1, leaving=True))
    await store.ownership.snapshot()
    await anyio.sleep(1)
    await store.inbox.request_poll(ConnectionId(UserId("ben"), PROVIDER))
    await _polls(life, 1)  # its change is announced to the first replica
    answer = await home.service.api.post(f"/api/users/ada/connections/{PROVIDER}/poll")
    assert answer.status_code == 202, answer.text
