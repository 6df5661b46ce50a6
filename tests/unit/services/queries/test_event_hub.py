"""Supply of streams over several replicas: each number exactly once, whatever happens to hints, store and readers."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing
from datetime import timedelta
from functools import partial
from typing import Any, cast

import anyio
import pytest
from anyio.abc import TaskStatus
from anyio.lowlevel import checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st

from bg_ingest.adapters.jwt import JwtVerifier
from bg_ingest.adapters.memory import MemoryHints
from bg_ingest.domain.access import Scope
from bg_ingest.errors import TooManyStreams
from bg_ingest.ports import Hint
from bg_ingest.services.queries.changes import ChangeQueries
from bg_ingest.services.queries.many_users import EventOf, Snapshot, Unknown
from bg_ingest.services.queries.stream import (
    DEFAULT_STREAM_LIMITS,
    EndReason,
    Heartbeat,
    StreamClient,
    StreamEnd,
    StreamLimits,
)
from bg_ingest.store import keys
from bg_ingest.store.changes import CHANGE_RETENTION
from tests.conftest import VirtualTimeLoop, examples
from tests.fakes.faults import CallWrapper, Fault, FaultyCalls
from tests.fakes.issuer import AUDIENCE, ISSUER, FakeIssuer
from tests.fakes.stale_reads import LaggingTable
from tests.harness.hubs import ADA, BEN, CLIENT, FaultyHints, Follower, HubReplica, Hubs, open_hubs

LATEST_SECONDS = 65.0
"""Delay that the contract allows if hints are lost."""


@pytest.fixture
async def hubs() -> AsyncIterator[Hubs]:
    async with open_hubs() as opened:
        yield opened


async def until(holds: Callable[[], bool], seconds: float) -> None:
    with anyio.fail_after(seconds):
        while not holds():  # noqa: ASYNC110 - the state has no event to wait for
            await anyio.sleep(0.1)


def ends_with(follower: Follower, number: int) -> bool:
    return follower.numbers[-1:] == [number]


def upto(last: int, first: int = 1) -> list[int]:
    return list(range(first, last + 1))


async def test_commits_of_every_replica_arrive_at_once(hubs: Hubs) -> None:
    one, two = await hubs.replica(), await hubs.replica()
    await hubs.commit(one)
    await anyio.sleep(1)
    async with hubs.follow(one, ada=0) as near, hubs.follow(two, ada=0) as far:
        for _ in range(5):
            await hubs.commit(one)
            await anyio.sleep(0.01)
            assert near.numbers == far.numbers == upto(len(near.numbers))
    assert near.numbers == upto(6)
    assert (one.metric("stream_wakeups_total", by="commit"), two.metric("stream_wakeups_total", by="hint")) == (5, 5)
    assert two.metric("stream_events_total") == 6
    assert two.metric("stream_delay_seconds_count") == 5, "the first change is older than the stream"


async def test_the_streams_of_a_user_share_one_read(hubs: Hubs) -> None:
    one, two = await hubs.replica(), await hubs.replica()
    await hubs.commit(one)
    async with AsyncExitStack() as stack:
        followers = [await stack.enter_async_context(hubs.follow(one, ada=1)) for _ in range(20)]
        await anyio.sleep(0.1)
        for number in upto(11, 2):
            before = hubs.table.reads
            await hubs.commit(two)
            await anyio.sleep(0.1)
            assert hubs.table.reads - before <= 2, "one of them reads the head for the commit"
            assert all(follower.numbers == upto(number, 2) for follower in followers)
    assert one.metric("stream_rereads_total") == 0
    assert one.metric("streams") == 0


async def test_streams_that_have_all_earlier_events_receive_a_commit_of_their_process_without_a_read() -> None:
    async with open_hubs(lambda table: FaultyCalls(table, lambda _: Fault.BEFORE if failing else None)) as hubs:
        failing = False
        one, two = await hubs.replica(), await hubs.replica()
        await hubs.commit(one)
        async with AsyncExitStack() as stack:
            near = [await stack.enter_async_context(hubs.follow(one, ada=1)) for _ in range(20)]
            far = await stack.enter_async_context(hubs.follow(two, ada=1))
            failing = True
            for number in upto(11, 2):
                await hubs.commit(one)
                await anyio.sleep(0.1)
                assert all(follower.numbers == upto(number, 2) for follower in near)
            assert far.numbers == []
            failing = False
            await until(partial(ends_with, far, 11), 10)
            assert far.numbers == upto(11, 2)
            stored = [item.event.body for item in far.items if isinstance(item, EventOf)]
            assert [item.event.body for item in near[0].items if isinstance(item, EventOf)] == stored


async def test_a_commit_that_the_begin_of_a_stream_finds_reaches_the_earlier_streams(hubs: Hubs) -> None:
    one, _ = await hubs.replica(), await hubs.replica()
    await hubs.commit(one)
    async with hubs.follow(one, ada=1) as earlier:
        await anyio.sleep(1)
        await hubs.commit(one, announced=False)
        async with hubs.follow(one, ada=1) as later:
            await anyio.sleep(0.1)
            assert earlier.numbers == later.numbers == [2]


@pytest.mark.parametrize("connected", [True, False])
async def test_without_hints_the_heads_bring_each_event_in_time(hubs: Hubs, *, connected: bool) -> None:
    one = await hubs.replica()
    others = [await hubs.replica()] if connected else []
    await hubs.commit(one)
    async with hubs.follow(one, ada=1) as follower:
        for number in upto(6, 2):
            await anyio.sleep(7)
            await hubs.commit(one, announced=False)
            await until(partial(ends_with, follower, number), LATEST_SECONDS if others else 5.1)
    assert follower.numbers == upto(6, 2)
    assert one.metric("stream_wakeups_total", by="reconcile") == 5


async def test_a_head_that_lags_at_the_opening_loses_nothing() -> None:
    async with open_hubs(LaggingTable) as hubs:
        table: Any = hubs.wrapped
        one, _ = await hubs.replica(), await hubs.replica()
        await hubs.commit(one)
        await table.hold(keys.head(ADA), keys.head(BEN))
        await hubs.commit(one)
        await hubs.commit(one, BEN)
        async with hubs.follow(one, ada=2) as resumed, hubs.follow(one, ada=None, ben=None) as begun:
            await anyio.sleep(1)
            assert (resumed.numbers, resumed.others) == ([], []), "the cursor is not beyond the last change"
            table.release()
            await anyio.sleep(LATEST_SECONDS)
        assert begun.others == [Snapshot(ADA, 1, None), Snapshot(BEN, 1, None)]
        assert begun.numbers == [2]


async def test_a_hub_requests_hints_while_it_has_streams(hubs: Hubs) -> None:
    one, _ = await hubs.replica(), await hubs.replica()
    await hubs.commit(one)
    await anyio.sleep(600)
    assert one.hints.requests == 0
    async with hubs.follow(one, ada=1):
        await anyio.sleep(630)
    assert one.hints.requests == 11
    await anyio.sleep(600)
    assert one.hints.requests == 11


async def test_a_commit_before_the_request_for_hints_arrives_is_not_late(hubs: Hubs) -> None:
    one, two = await hubs.replica(), await hubs.replica()
    await hubs.commit(two)
    one.hints.while_requested = partial(hubs.commit, two, announced=False)
    async with hubs.follow(one, ada=1) as follower:
        await anyio.sleep(0.1)
        assert follower.numbers == [2]


async def test_an_idle_hub_reads_nothing_but_the_heads_of_watched_users(hubs: Hubs) -> None:
    one, _ = await hubs.replica(), await hubs.replica()
    await hubs.commit(one)
    before = hubs.table.reads
    await anyio.sleep(600)
    assert hubs.table.reads == before
    async with hubs.follow(one, ada=None):
        before = hubs.table.reads
        await anyio.sleep(599)
        assert hubs.table.reads - before <= 10 + 60, "heads each minute, keys every 10 s"


@pytest.mark.slow
async def test_a_slow_reader_misses_nothing_and_delays_no_other(hubs: Hubs) -> None:
    one = await hubs.replica()
    await hubs.commit(one)
    async with hubs.follow(one, ada=0) as slow, hubs.follow(one, ada=0) as fast:
        await anyio.sleep(1)
        slow.pause()
        for number in upto(301, 2):
            await hubs.commit(one)
            await anyio.sleep(0.05)
            assert fast.numbers[-1] == number
        assert len(slow.numbers) <= 2
        slow.resumed.set()
        await anyio.sleep(1)
        assert slow.numbers == fast.numbers == upto(301)
    assert one.metric("stream_rereads_total") >= 3


class QueriesInProgress(CallWrapper):
    """Table that counts its queries in progress."""

    now = most = 0

    async def _around(self, name: str, call: Any) -> Any:
        return await call()

    async def query(self, *args: Any, **options: Any) -> AsyncIterator[Any]:
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            async with aclosing(self._inner.query(*args, **options)) as pages:
                async for page in pages:
                    await checkpoint()
                    yield page
        finally:
            self.now -= 1


async def test_streams_far_behind_read_one_after_the_other() -> None:
    tables: list[QueriesInProgress] = []

    def around(table: Any) -> Any:
        tables.append(QueriesInProgress(table))
        return tables[0]

    async with open_hubs(around) as hubs, AsyncExitStack() as stack:
        one = await hubs.replica()
        for _ in range(20):
            await hubs.commit(one)
        followers = [await stack.enter_async_context(hubs.follow(one, ada=after)) for after in range(10)]
        await anyio.sleep(1)
        assert [follower.numbers for follower in followers] == [upto(20, after + 1) for after in range(10)]
        assert tables[0].most == 1


async def test_a_hint_beyond_the_last_change_is_corrected(hubs: Hubs) -> None:
    one = await hubs.replica()
    await hubs.commit(one)
    other = MemoryHints([one.hints.inner])
    async with hubs.follow(one, ada=0) as follower:
        other.send(Hint(ADA, 999))
        await anyio.sleep(1)
        assert follower.numbers == [1]
        await hubs.commit(one)
        await anyio.sleep(1)
        assert (follower.numbers, follower.others) == ([1, 2], [])


@pytest.mark.parametrize("broken", [True, False])
async def test_streams_that_begin_while_others_learn_the_end_of_a_read_without_events_read_again(
    hubs: Hubs, monkeypatch: pytest.MonkeyPatch, *, broken: bool
) -> None:
    read, arrived = ChangeQueries.batch, anyio.Event()

    async def batch(queries: ChangeQueries, user: Any, after: int) -> Any:
        if arrived.is_set():
            return await read(queries, user, after)
        await arrived.wait()
        if broken:
            raise ValueError("unreadable")
        return []

    monkeypatch.setattr(ChangeQueries, "batch", batch)
    one = await hubs.replica()
    other = MemoryHints([one.hints.inner])
    await hubs.commit(one)
    async with AsyncExitStack() as stack:
        for _ in range(40):
            await stack.enter_async_context(hubs.follow(one, ada=1))
        other.send(Hint(ADA, 2))  # there is no such change yet
        await anyio.sleep(1)
        arrived.set()
        late: list[Follower] = []
        await hubs.commit(one, announced=False)
        for _ in range(10):
            late.append(await stack.enter_async_context(hubs.follow(one, ada=1)))
            other.send(Hint(ADA, 2))
        for _ in range(1_000):  # a sleep would not end while tasks wake each other
            await checkpoint()
        assert [follower.numbers for follower in late] == [[2]] * 10


async def test_heartbeats_continue_while_the_store_fails_and_events_follow() -> None:
    failing = False

    def around(table: Any) -> Any:
        return FaultyCalls(table, lambda _: Fault.BEFORE if failing else None)

    async with open_hubs(around) as hubs:
        one, two = await hubs.replica(), await hubs.replica()
        await hubs.commit(one)
        await anyio.sleep(1)
        async with hubs.follow(one, ada=1) as follower:
            failing = True
            await hubs.commit(two)
            await anyio.sleep(60)
            assert follower.items
            assert {type(item) for item in follower.items} == {Heartbeat}
            assert len(follower.items) in range(18, 21)
            failing = False
            await anyio.sleep(20)
            assert (follower.numbers, follower.others) == ([2], [])
            failing = True
            await hubs.commit(two)
            await anyio.sleep(1_000)
            assert follower.others == [StreamEnd(EndReason.BROKEN)]


async def test_an_unreadable_event_breaks_the_streams_of_its_user_and_no_other(
    hubs: Hubs, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = ChangeQueries.batch

    async def batch(queries: ChangeQueries, user: Any, after: int) -> Any:
        if user == ADA:
            raise ValueError("unreadable")
        return await read(queries, user, after)

    monkeypatch.setattr(ChangeQueries, "batch", batch)
    one = await hubs.replica()
    for user in (ADA, BEN):
        await hubs.commit(one, user)
    async with hubs.follow(one, ada=0) as broken, hubs.follow(one, ben=0) as other:
        await anyio.sleep(1)
        assert broken.others == [StreamEnd(EndReason.BROKEN)]
        assert (other.numbers, other.others) == ([1], [])


async def test_a_cursor_that_is_not_kept_becomes_a_snapshot_with_the_missed_numbers(hubs: Hubs) -> None:
    one = await hubs.replica()
    for _ in range(3):
        await hubs.commit(one)
    hubs.clock.skip(CHANGE_RETENTION)  # the store has not deleted them yet
    await hubs.commit(one)
    async with hubs.follow(one, ada=1) as follower, hubs.follow(one, ada=3) as kept, hubs.follow(one, ada=9) as beyond:
        await anyio.sleep(1)
        await hubs.commit(one)
        await anyio.sleep(1)
    assert follower.others == [Snapshot(ADA, 4, None, (2, 4))]
    assert follower.numbers == [5]
    assert (kept.others, kept.numbers) == ([], [4, 5])
    assert (beyond.others, beyond.numbers) == ([Snapshot(ADA, 4, None, (1, 4))], [5])


@pytest.mark.parametrize("announced", [True, False])
async def test_an_erasure_ends_the_stream_in_time_without_a_further_event(hubs: Hubs, *, announced: bool) -> None:
    one, two = await hubs.replica(), await hubs.replica()
    one.hints.fault = MemoryHints.send if announced else lambda hints, hint: None
    for user in (ADA, BEN):
        await hubs.commit(one, user)
    async with hubs.follow(two, ada=1) as single, hubs.follow(two, ada=1, ben=1) as many:
        await anyio.sleep(10)
        await hubs.erase(one)
        await anyio.sleep(1 if announced else LATEST_SECONDS)
        assert single.others == [Unknown(ADA), StreamEnd(EndReason.ERASED)]
        assert many.others == [Unknown(ADA)]
        await hubs.commit(two)
        await hubs.commit(two, BEN)
        await anyio.sleep(LATEST_SECONDS)
        assert (single.numbers, many.numbers) == ([], [2])


async def test_an_erasure_by_the_same_process_ends_a_slow_stream_without_the_events_in_memory(hubs: Hubs) -> None:
    one = await hubs.replica()
    await hubs.commit(one)
    async with hubs.follow(one, ada=1) as slow:
        slow.pause()
        for _ in range(3):
            await hubs.commit(one)
            await anyio.sleep(0.1)
        await hubs.erase(one)
        slow.resumed.set()
        await anyio.sleep(0.1)
        assert slow.items[1:] == [Unknown(ADA), StreamEnd(EndReason.ERASED)]


async def test_an_erasure_before_the_hub_starts_delays_no_other_user(hubs: Hubs) -> None:
    one = HubReplica(hubs.store, hubs.clock, FaultyHints([]), DEFAULT_STREAM_LIMITS, None)
    await hubs.commit(one)
    await hubs.commit(one, BEN)
    async with hubs.follow(one, ada=0, ben=0) as follower:
        await anyio.sleep(1)
        await hubs.erase(one)
        await hubs.group.start(one.hub)
        await anyio.sleep(1)
        assert (follower.others, follower.numbers) == ([Unknown(ADA)], [1])


async def test_an_erasure_while_a_stream_begins_ends_it() -> None:
    async with open_hubs(LaggingTable) as hubs:
        one = await hubs.replica()
        await hubs.commit(one)
        await cast("Any", hubs.wrapped).hold(keys.head(ADA))
        with one.hub.open(CLIENT, [ADA]) as stream:
            await hubs.erase(one)
            await one.hub.begin(stream, {ADA: 1})
            async with aclosing(stream.items(anyio.sleep_forever)) as items:
                assert [item async for item in items] == [Unknown(ADA), StreamEnd(EndReason.ERASED)]


async def test_an_event_that_cannot_be_encoded_fails_no_commit(hubs: Hubs, monkeypatch: pytest.MonkeyPatch) -> None:
    def encode(*_: Any) -> Any:
        monkeypatch.undo()
        raise ValueError("not encodable")

    one = await hubs.replica()
    await hubs.commit(one)
    async with hubs.follow(one, ada=1) as follower:
        monkeypatch.setattr(ChangeQueries, "encode", encode)
        await hubs.commit(one)
        await anyio.sleep(1)
        assert follower.numbers == [2]


async def test_after_an_erasure_and_a_new_connect_an_old_cursor_is_missed(hubs: Hubs) -> None:
    one = await hubs.replica()
    for _ in range(3):
        await hubs.commit(one)
    await hubs.erase(one)
    await hubs.commit(one)
    async with hubs.follow(one, ada=2) as old, hubs.follow(one, ada=4) as new:
        await anyio.sleep(1)
    assert (old.others, old.numbers) == ([Snapshot(ADA, 5, None, (3, 5))], [])
    assert (new.others, new.numbers) == ([], [5])


async def test_streams_end_as_the_drain_begins_and_later_ones_at_once(hubs: Hubs) -> None:
    one = await hubs.replica()
    await hubs.commit(one)
    async with hubs.follow(one, ada=1) as follower:
        one.hub.close()
        await anyio.sleep(0.001)
        assert follower.items == [StreamEnd(EndReason.RESTARTING)]
        async with hubs.follow(one, ada=0) as late:
            await anyio.sleep(0.001)
            assert late.items == [StreamEnd(EndReason.RESTARTING)]


async def test_the_limits_of_replica_and_credential_hold(hubs: Hubs) -> None:
    one = await hubs.replica(StreamLimits(max_streams=150))
    await hubs.commit(one)
    async with AsyncExitStack() as stack:
        for number in range(150):
            client = StreamClient("key:one" if number < 100 else "key:two", None, "")
            await stack.enter_async_context(hubs.follow(one, client, ada=None))
            if number == 99:
                with pytest.raises(TooManyStreams) as refused, one.hub.open(client, [ADA]):
                    pass
                assert refused.value.of_credential
        with pytest.raises(TooManyStreams) as refused, one.hub.open(StreamClient("key:three", None, ""), [ADA]):
            pass
        assert (refused.value.of_credential, refused.value.limit) == (False, 150)
        assert one.metric("streams") == 150
    with one.hub.open(StreamClient("key:one", None, ""), [ADA]):
        assert one.metric("streams") == 1
    none = await hubs.replica(StreamLimits(max_streams=0))
    with pytest.raises(TooManyStreams), none.hub.open(StreamClient("key:one", None, ""), [ADA]):
        pass


async def ends_within(follower: Follower, seconds: float, reason: EndReason) -> None:
    await until(lambda: follower.others == [StreamEnd(reason)], seconds)


async def test_a_revoked_key_ends_its_stream_within_30_seconds(hubs: Hubs) -> None:
    one = await hubs.replica()
    await hubs.commit(one)
    keys = [await hubs.keys.create(name, [Scope.READINGS_READ]) for name in ("one", "two")]
    clients = [StreamClient(key.key.caller.name, key.text.reveal(), "") for key in keys]
    async with hubs.follow(one, clients[0], ada=1) as revoked, hubs.follow(one, clients[1], ada=1) as other:
        await anyio.sleep(100)
        assert not revoked.others
        await hubs.keys.revoke(keys[0].key.id)
        await ends_within(revoked, 30, EndReason.CREDENTIAL_ENDED)
        await hubs.commit(one)
        await anyio.sleep(100)
        assert (revoked.numbers, other.numbers, other.others) == ([], [2], [])


async def test_a_token_that_expires_ends_its_stream(hubs: Hubs) -> None:
    issuer = FakeIssuer(hubs.clock.now)
    async with issuer.http:
        one = await hubs.replica(verifier=JwtVerifier(issuer.http, hubs.clock, issuer=ISSUER, audience=AUDIENCE))
        await hubs.commit(one)
        async with hubs.follow(one, StreamClient("token:ada", issuer.token(), ""), ada=1) as follower:
            await anyio.sleep(290)
            assert not follower.others
            await anyio.sleep(10)
            await ends_within(follower, 31 + 30, EndReason.CREDENTIAL_ENDED)


async def test_a_stream_of_the_open_api_ends_once_a_key_exists(hubs: Hubs) -> None:
    one = await hubs.replica()
    await hubs.commit(one)
    async with hubs.follow(one, ada=1) as follower:
        await anyio.sleep(20)
        await hubs.keys.create("first", [Scope.READINGS_READ])
        await ends_within(follower, 30, EndReason.CREDENTIAL_ENDED)


@pytest.mark.slow
async def test_reads_are_audited_once_an_hour(hubs: Hubs) -> None:
    one = await hubs.replica()
    added: list[Any] = []
    cast("Any", one.audit_log).add = lambda *record: added.append(record)
    await hubs.commit(one)
    await hubs.commit(one, BEN)
    async with hubs.follow(one, ada=None, ben=None):
        await anyio.sleep(3 * 3600 + 60)
    assert len(added) == 2 * 3
    assert {(user, credential, route) for user, credential, route, _ in added} == {
        (ADA, "key:one", "GET /stream"),
        (BEN, "key:one", "GET /stream"),
    }


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("commit"), st.integers(0, 1), st.integers(1, 3)),
        st.tuples(st.just("hints"), st.sampled_from(["lost", "repeated", "late"]), st.integers(0, 1)),
        st.tuples(st.just("reconnect"), st.integers(0, 2), st.booleans()),
        st.tuples(st.just("pause"), st.integers(0, 2), st.integers(0, 30)),
        st.tuples(st.just("sleep"), st.sampled_from([0.0, 0.001, 0.5, 20.0]), st.just(0)),
        st.tuples(st.just("store"), st.integers(1, 4), st.just(0)),
    ),
    max_size=25,
)


class FollowingClient:
    """Client that reconnects with the number of its last event, to the other replica each time."""

    def __init__(self, hubs: Hubs, replicas: list[HubReplica]) -> None:
        self._hubs, self._replicas = hubs, replicas
        self._left, self._ended = anyio.Event(), anyio.Event()
        self.received: list[int] = []
        self.follower: Follower

    async def connect(self) -> None:
        self._replicas.reverse()
        self._left, self._ended = anyio.Event(), anyio.Event()
        self.follower = await self._hubs.group.start(self._follow)

    async def _follow(self, *, task_status: TaskStatus[Follower]) -> None:
        after = self.received[-1] if self.received else 0
        async with self._hubs.follow(self._replicas[0], ada=after) as follower:
            task_status.started(follower)
            await self._left.wait()
        assert not follower.others
        self.received += follower.numbers
        self._ended.set()

    async def disconnect(self) -> None:
        self._left.set()
        await self._ended.wait()


@pytest.mark.slow
@settings(max_examples=examples(60))
@given(steps=STEPS)
def test_every_number_is_sent_exactly_once(steps: list[tuple[Any, Any, Any]]) -> None:
    anyio.run(check_steps, steps, backend_options={"loop_factory": VirtualTimeLoop})


async def check_steps(  # noqa: C901 - one case per kind of step
    steps: list[tuple[Any, Any, Any]],
) -> None:
    failing = 0

    def plan(_: int) -> Fault | None:
        nonlocal failing
        failing = max(0, failing - 1)
        return Fault.BEFORE if failing else None

    async with open_hubs(lambda table: FaultyCalls(table, plan)) as hubs:
        replicas = [await hubs.replica(), await hubs.replica()]
        last = await hubs.commit(replicas[0])
        clients = [FollowingClient(hubs, [*replicas]) for _ in range(3)]
        for client in clients:
            await client.connect()
        for kind, first, second in steps:
            match kind:
                case "commit":
                    for _ in range(second):
                        last = await hubs.commit(replicas[first])
                case "hints":
                    replicas[second].hints.fault = faulty(first, hubs)
                case "reconnect" if not failing:
                    await clients[first].disconnect()
                    await clients[first].connect()
                case "pause":
                    hubs.group.start_soon(pause, clients[first].follower, second)
                case "sleep":
                    await anyio.sleep(first)
                case "store":
                    failing = first
        failing = 0
        await anyio.sleep(LATEST_SECONDS + 30)
        for client in clients:
            await client.disconnect()
        assert [client.received for client in clients] == [upto(last)] * 3


def faulty(kind: str, hubs: Hubs) -> Any:
    def lost(*_: Any) -> None: ...

    def repeated(hints: MemoryHints, hint: Hint) -> None:
        for _ in range(3):
            hints.send(hint)

    def late(hints: MemoryHints, hint: Hint) -> None:
        async def send() -> None:
            await anyio.sleep(hint.last_change % 3)
            hints.send(hint)

        hubs.group.start_soon(send)

    return {"lost": lost, "repeated": repeated, "late": late}[kind]


async def pause(follower: Follower, seconds: float) -> None:
    resumed = follower.pause()
    await anyio.sleep(seconds)
    resumed.set()


async def test_the_audit_hour_begins_with_the_hub(hubs: Hubs) -> None:
    """An hour that began before the stream was audited at its opening, by the request."""
    one = await hubs.replica()
    added: list[Any] = []
    cast("Any", one.audit_log).add = lambda *record: added.append(record)
    await hubs.commit(one)
    async with hubs.follow(one, ada=None):
        await anyio.sleep(timedelta(minutes=50).total_seconds())
    assert not added
