"""Three replicas as processes: each accepts every request, and the others take over if one ends.

Their ownership moves four times as fast as usual (see quick.py). The provider's log names the replica and the user of
each call.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import httpx
import pytest

from bg_ingest.simulator import SimulatorOptions
from bg_ingest.simulator.data import user_id
from tests.harness.web import web
from tests.harness.webhook_sender import SECRET
from tests.integration.processes import free_port
from tests.integration.servers import REGION, DynamoServer, make_table
from tests.long.chaos.calls import Call, read_calls
from tests.long.chaos.clients import Clients
from tests.long.chaos.fleet import Fleet, Replica, fleet
from tests.long.chaos.lateness import Timetable
from tests.long.chaos.processes import CALLS, Process, run_folder, service_settings, wait_until
from tests.long.chaos.replica_faults import now
from tests.long.chaos.store_dump import PROVIDER
from tests.long.chaos.users import SimulatedUser, make_users, poll_now

USERS, PASSIVE_USERS = make_users(36)[:24], make_users(36)[24:]
"""Enough users that each replica polls one with any distribution of shards. Others are polled at their slots only."""

SETTINGS = {
    "BACKFILL_DAYS": "0",
    "SWEEP_DAYS": "0",
    "WEEKLY_SWEEP_DAYS": "0",
    "OVERLAP_SECONDS": "3600",
    "WEBHOOK_SIGNING_SECRETS": SECRET,
}

SETTINGS_SECONDS = 10.0
"""Seconds, twice the promised time of a poll request, because the machine of a test run is busy."""

TAKE_OVER_SECONDS = 20.0
"""Seconds that a poll may be late while replicas fail: a third of the interval. An idle machine takes 1.5 times a TTL
of 4 (``tests.long.chaos.replicas`` measures that)."""

SERVE_SECONDS = 3.0
"""Seconds: sooner than shards can be taken from a replica that died (see quick.py)."""


class ReplicaGroup:
    """The replicas, the users that they poll, and the calls that the provider recorded."""

    def __init__(self, replicas: Fleet, calls: Path) -> None:
        self.replicas = replicas
        self.one, self.two, self.three = replicas.replicas
        self._calls = calls

    def calls(self, *users: SimulatedUser) -> list[Sequence[Call]]:
        seen = read_calls(self._calls)
        return [seen.get(each.login, []) for each in users]

    def poll(self, asked: Replica, *users: SimulatedUser) -> list[str]:
        """Request a poll of each user from one replica; return the replicas that polled."""
        before = [len(calls) for calls in self.calls(*users)]
        for each in users:
            poll_now(asked.process, each)

        def done() -> list[Call]:
            return [calls[count] for calls, count in zip(self.calls(*users), before, strict=True) if len(calls) > count]

        wait_until(lambda: len(done()) == len(users), SETTINGS_SECONDS, "the polls")
        return [call.caller for call in done()]

    def served_by(self, one: Replica) -> SimulatedUser:
        """Return one user that a replica polls."""
        return next(each for each, calls in zip(USERS, self.calls(*USERS), strict=True) if calls[-1].caller == one.name)


@pytest.fixture(autouse=True)
def all_replicas_working(replica_group: "ReplicaGroup") -> Iterator[None]:
    """Each test starts with all three replicas working, regardless of the previous test, or reports the end of one."""
    for each in replica_group.replicas.replicas:
        assert each.process.alive, f"{each.name} has ended by itself: {each.process.last_words}"
    yield
    gone = [each for each in replica_group.replicas.replicas if not each.process.alive]
    for each in gone:
        each.restart()
    if gone:
        replica_group.replicas.get_balanced()
        replica_group.poll(replica_group.one, *USERS)  # by their present owner


@pytest.fixture(scope="module")
def replica_group(dynamodb: DynamoServer) -> Iterator[ReplicaGroup]:
    async def make() -> str:
        async with dynamodb.client() as client:
            return await make_table(client)

    table = anyio.run(make)
    options = SimulatorOptions(
        seed=3, users=len(USERS) + len(PASSIVE_USERS), cadence_minutes=1, delay_seconds=3600, days_back=2
    )
    with run_folder("quick") as folder:

        def service(store_port: int, name: str, **settings: str) -> Process:
            port = free_port()
            store = {"DYNAMODB_ENDPOINT": f"http://127.0.0.1:{store_port}", "DYNAMODB_TABLE": table}
            aws = {"AWS_REGION": REGION, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
            given = service_settings(folder, port) | store | aws | settings
            return Process(folder, name, "tests.integration.quick", port=port, **given)

        store_port = httpx.URL(dynamodb.endpoint).port or 80
        with fleet(folder, service, store_port, options, SETTINGS, gated=["three"]) as replicas:
            assert replicas.connect([*USERS, *PASSIVE_USERS]) == []
            found = ReplicaGroup(replicas, folder / CALLS)
            for each in PASSIVE_USERS:
                set_worker(found.one, each, poll_interval_seconds=60)
            wait_until(
                lambda: all(found.calls(*USERS, *PASSIVE_USERS)), SETTINGS_SECONDS, "the first poll of every user"
            )
            began = now()
            yield found
            check_calls(found, began)


def check_calls(replica_group: ReplicaGroup, began: float) -> None:
    """Users outside the tests were polled at each of their slots, regardless of the failures of replicas."""
    replicas, ended = replica_group.replicas, now()
    calls = {each.login: made for each, made in zip(PASSIVE_USERS, replica_group.calls(*PASSIVE_USERS), strict=True)}
    dues = [due for due in Timetable(replicas.options, PASSIVE_USERS, calls, began, ended).dues if due.due > began]
    assert dues, "no slot fell into the time of these tests"
    assert [due for due in dues if due.lag > TAKE_OVER_SECONDS] == []
    limit = web.get(f"{replicas.simulated.url}/admin/state", timeout=SETTINGS_SECONDS).json()["limit"]
    assert limit["refused"] == 0


def test_one_replica_polls_whichever_gets_the_request(replica_group: ReplicaGroup) -> None:
    done_by = [replica_group.poll(asked, *USERS) for asked in replica_group.replicas.replicas]
    assert done_by[0] == done_by[1] == done_by[2]
    assert set(done_by[0]) == {"one", "two", "three"}


def test_each_replica_reports_its_work(replica_group: ReplicaGroup) -> None:
    reports = [each.report() for each in replica_group.replicas.replicas]
    assert len({each["owner"] for each in reports}) == 3
    for each in reports:
        assert (each["state"], each["unready"], each["degraded"]) == ("running", [], [])
        assert {owner["id"]: owner["shards"] for owner in each["owners"]}.keys() == {own["owner"] for own in reports}
        due = [datetime.fromisoformat(report["due"]) for report in each["connections"]["next_polls"]]
        assert due == sorted(due)
        assert due[0] < datetime.fromtimestamp(now(), UTC) + timedelta(minutes=15)
        (budget,) = each["budgets"]
        assert (budget["provider"], budget["region"], budget["slowdown"], budget["paused"]) == (
            PROVIDER,
            "us",
            1.0,
            False,
        )
        assert each["relay"]["failures"] == 0
    assert sum(each["shards"]["owned"] for each in reports) == 256
    assert sum(each["connections"]["polled"] for each in reports) == len(USERS) + len(PASSIVE_USERS)
    assert sum(each["budgets"][0]["calls"] for each in reports) >= len(USERS) + len(PASSIVE_USERS)


def test_a_setting_takes_effect_on_whichever_replica_polls(replica_group: ReplicaGroup) -> None:
    person = replica_group.served_by(replica_group.two)

    def polled() -> int:
        polled: int = replica_group.two.report()["connections"]["polled"]
        return polled

    before = polled()
    set_worker(replica_group.one, person, paused=True)
    wait_until(lambda: polled() == before - 1, SETTINGS_SECONDS, "the pause")
    set_worker(replica_group.three, person, paused=False)
    wait_until(lambda: polled() == before, SETTINGS_SECONDS, "the end of the pause")
    assert replica_group.poll(replica_group.one, person) == ["two"]


def test_others_take_over_from_a_killed_replica(replica_group: ReplicaGroup) -> None:
    person = replica_group.served_by(replica_group.two)
    replica_group.two.process.kill()
    assert replica_group.poll(replica_group.one, person) != ["two"]


def test_a_replica_without_its_store_stops_before_others_take_over(replica_group: ReplicaGroup) -> None:
    gate = replica_group.three.gate
    assert gate is not None
    person = replica_group.served_by(replica_group.three)
    (before,) = replica_group.calls(person)
    gate.switch("silent")
    try:
        wait_until(
            lambda: not replica_group.three.is_ready, SETTINGS_SECONDS, "the replica to say that it is not ready"
        )
        assert replica_group.poll(replica_group.one, person) != ["three"]
        (after,) = replica_group.calls(person)
        assert "three" not in {call.caller for call in after[len(before) :]}
    finally:
        gate.switch("open")
    wait_until(lambda: replica_group.three.is_ready, SETTINGS_SECONDS, "the replica to be ready again")
    replica_group.replicas.get_balanced()
    assert "three" in replica_group.poll(replica_group.one, *USERS)


def test_a_suspended_replica_resumes_without_its_shards_and_polls_no_user_twice(
    replica_group: ReplicaGroup,
) -> None:
    person = replica_group.served_by(replica_group.two)
    replica_group.two.process.pause()
    try:
        assert replica_group.poll(replica_group.one, person) != ["two"]
    finally:
        replica_group.two.process.go_on()
    wait_until(lambda: replica_group.two.is_ready, SETTINGS_SECONDS, "the replica to be ready again")
    replica_group.replicas.get_balanced()
    replica_group.poll(replica_group.one, *USERS)  # a request that waited at the suspended replica is repeated before
    before = list(map(len, replica_group.calls(*USERS)))
    replica_group.poll(replica_group.three, *USERS)
    counts = [len(calls) - count for calls, count in zip(replica_group.calls(*USERS), before, strict=True)]
    assert counts == [1] * len(USERS)


def test_while_each_is_restarted_others_serve_at_once_and_a_single_retry_heals_every_request(
    replica_group: ReplicaGroup,
) -> None:
    options = replica_group.replicas.options
    accounts = {each: user_id(options.seed, options.client_id, each.login) for each in USERS}
    clients = Clients([each.process for each in replica_group.replicas.replicas], accounts, seed=1, every=0.1)
    clients.start(lambda: USERS, threads=1)
    for each, other in zip(
        replica_group.replicas.replicas, (replica_group.two, replica_group.three, replica_group.one), strict=True
    ):
        replica_group.poll(other, *USERS)  # by their present owner
        person = replica_group.served_by(each)
        code, _ = each.process.stop()
        assert code == 0
        wait_until(lambda: sum(replica_group.replicas.shares()) == 256, SERVE_SECONDS, "the others to own all shards")
        assert replica_group.poll(other, person) != [each.name]
        each.restart()
        replica_group.replicas.get_balanced()
    assert clients.finish(30) == 0, "every webhook is finally answered by 202"
    assert clients.attempts.failed == []
    assert clients.attempts.healed, "some webhooks reached an unavailable replica"
    replica_group.poll(replica_group.one, *USERS)


def set_worker(asked: Replica, person: SimulatedUser, **settings: object) -> None:
    path = f"/api/users/{person.user}/connections/{PROVIDER}/worker"
    web.patch(f"{asked.url}{path}", json=settings).raise_for_status()
