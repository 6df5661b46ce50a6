"""Three replicas as real processes: asked anywhere, and followed by the others when one of them goes.

Their ownership moves four times as fast as usual (see quick.py). What the provider writes down says who asked for whom.
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

PEOPLE, PASSIVE_USERS = make_users(36)[:24], make_users(36)[24:]
"""So many that each replica polls somebody, whichever shards it has. The others are polled at their slots only."""

SETTINGS = {
    "BACKFILL_DAYS": "0",
    "SWEEP_DAYS": "0",
    "WEEKLY_SWEEP_DAYS": "0",
    "OVERLAP_SECONDS": "3600",
    "WEBHOOK_SIGNING_SECRETS": SECRET,
}

SETTINGS_SECONDS = 10.0
"""Seconds, twice what is promised of a ring: the machine of a test run is busy."""

TAKE_OVER_SECONDS = 20.0
"""Seconds that a poll may be late whatever happens to the replicas: a third of the interval, where a machine that does
nothing else takes 1.5 times a TTL of 4 (``tests.long.chaos.replicas`` measures that)."""

SERVE_SECONDS = 3.0
"""Seconds: sooner than shards can be taken from a replica that died (see quick.py)."""


class ReplicaGroup:
    """The replicas, those they poll, and what the provider saw of it."""

    def __init__(self, replicas: Fleet, calls: Path) -> None:
        self.replicas = replicas
        self.one, self.two, self.three = replicas.replicas
        self._calls = calls

    def calls(self, *people: SimulatedUser) -> list[Sequence[Call]]:
        seen = read_calls(self._calls)
        return [seen.get(each.login, []) for each in people]

    def poll(self, asked: Replica, *people: SimulatedUser) -> list[str]:
        """Ask one replica for a poll of each; return which did it."""
        before = [len(calls) for calls in self.calls(*people)]
        for each in people:
            poll_now(asked.process, each)

        def done() -> list[Call]:
            return [
                calls[count] for calls, count in zip(self.calls(*people), before, strict=True) if len(calls) > count
            ]

        wait_until(lambda: len(done()) == len(people), SETTINGS_SECONDS, "the polls")
        return [call.caller for call in done()]

    def served_by(self, one: Replica) -> SimulatedUser:
        """Return one of those whom a replica polls."""
        return next(
            each for each, calls in zip(PEOPLE, self.calls(*PEOPLE), strict=True) if calls[-1].caller == one.name
        )


@pytest.fixture(autouse=True)
def everybody_at_work(company: "ReplicaGroup") -> Iterator[None]:
    """Each test finds all three at work, whatever the one before it did, or says how one ended."""
    for each in company.replicas.replicas:
        assert each.process.alive, f"{each.name} has ended by itself: {each.process.last_words}"
    yield
    gone = [each for each in company.replicas.replicas if not each.process.alive]
    for each in gone:
        each.restart()
    if gone:
        company.replicas.get_balanced()
        company.poll(company.one, *PEOPLE)  # by whoever serves them now


@pytest.fixture(scope="module")
def company(dynamodb: DynamoServer) -> Iterator[ReplicaGroup]:
    async def make() -> str:
        async with dynamodb.client() as client:
            return await make_table(client)

    table = anyio.run(make)
    options = SimulatorOptions(
        seed=3, users=len(PEOPLE) + len(PASSIVE_USERS), cadence_minutes=1, delay_seconds=3600, days_back=2
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
            assert replicas.connect([*PEOPLE, *PASSIVE_USERS]) == []
            found = ReplicaGroup(replicas, folder / CALLS)
            for each in PASSIVE_USERS:
                set_worker(found.one, each, poll_interval_seconds=60)
            wait_until(lambda: all(found.calls(*PEOPLE, *PASSIVE_USERS)), SETTINGS_SECONDS, "everybody's first poll")
            began = now()
            yield found
            check_calls(found, began)


def check_calls(company: ReplicaGroup, began: float) -> None:
    """Whatever the tests did to the replicas, those whom they left alone were polled at each of their slots."""
    replicas, ended = company.replicas, now()
    calls = {each.login: made for each, made in zip(PASSIVE_USERS, company.calls(*PASSIVE_USERS), strict=True)}
    dues = [due for due in Timetable(replicas.options, PASSIVE_USERS, calls, began, ended).dues if due.due > began]
    assert dues, "nobody's slot fell into the time of these tests"
    assert [due for due in dues if due.lag > TAKE_OVER_SECONDS] == []
    limit = web.get(f"{replicas.simulated.url}/admin/state", timeout=SETTINGS_SECONDS).json()["limit"]
    assert limit["refused"] == 0


def test_whoever_is_asked_one_replica_polls(company: ReplicaGroup) -> None:
    done_by = [company.poll(asked, *PEOPLE) for asked in company.replicas.replicas]
    assert done_by[0] == done_by[1] == done_by[2]
    assert set(done_by[0]) == {"one", "two", "three"}


def test_each_replica_reports_its_work(company: ReplicaGroup) -> None:
    reports = [each.report() for each in company.replicas.replicas]
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
    assert sum(each["connections"]["polled"] for each in reports) == len(PEOPLE) + len(PASSIVE_USERS)
    assert sum(each["budgets"][0]["calls"] for each in reports) >= len(PEOPLE) + len(PASSIVE_USERS)


def test_a_setting_takes_effect_on_whichever_replica_polls(company: ReplicaGroup) -> None:
    person = company.served_by(company.two)

    def polled() -> int:
        polled: int = company.two.report()["connections"]["polled"]
        return polled

    before = polled()
    set_worker(company.one, person, paused=True)
    wait_until(lambda: polled() == before - 1, SETTINGS_SECONDS, "the pause")
    set_worker(company.three, person, paused=False)
    wait_until(lambda: polled() == before, SETTINGS_SECONDS, "the end of the pause")
    assert company.poll(company.one, person) == ["two"]


def test_others_take_over_from_a_killed_replica(company: ReplicaGroup) -> None:
    person = company.served_by(company.two)
    company.two.process.kill()
    assert company.poll(company.one, person) != ["two"]


def test_a_replica_without_its_store_stops_before_others_take_over(company: ReplicaGroup) -> None:
    gate = company.three.gate
    assert gate is not None
    person = company.served_by(company.three)
    (before,) = company.calls(person)
    gate.switch("silent")
    try:
        wait_until(lambda: not company.three.is_ready, SETTINGS_SECONDS, "the replica to say that it is not ready")
        assert company.poll(company.one, person) != ["three"]
        (after,) = company.calls(person)
        assert "three" not in {call.caller for call in after[len(before) :]}
    finally:
        gate.switch("open")
    wait_until(lambda: company.three.is_ready, SETTINGS_SECONDS, "the replica to be ready again")
    company.replicas.get_balanced()
    assert "three" in company.poll(company.one, *PEOPLE)


def test_a_suspended_replica_wakes_to_what_was_taken_and_nobody_is_polled_twice(company: ReplicaGroup) -> None:
    person = company.served_by(company.two)
    company.two.process.pause()
    try:
        assert company.poll(company.one, person) != ["two"]
    finally:
        company.two.process.go_on()
    wait_until(lambda: company.two.is_ready, SETTINGS_SECONDS, "the replica to be ready again")
    company.replicas.get_balanced()
    before = list(map(len, company.calls(*PEOPLE)))
    company.poll(company.three, *PEOPLE)
    assert [len(calls) - count for calls, count in zip(company.calls(*PEOPLE), before, strict=True)] == [1] * len(
        PEOPLE
    )


def test_while_each_is_restarted_others_serve_at_once_and_a_single_retry_heals_every_request(
    company: ReplicaGroup,
) -> None:
    options = company.replicas.options
    accounts = {each: user_id(options.seed, options.client_id, each.login) for each in PEOPLE}
    clients = Clients([each.process for each in company.replicas.replicas], accounts, seed=1, every=0.1)
    clients.start(lambda: PEOPLE, threads=1)
    for each, other in zip(company.replicas.replicas, (company.two, company.three, company.one), strict=True):
        company.poll(other, *PEOPLE)  # by whoever serves them now
        person = company.served_by(each)
        code, _ = each.process.stop()
        assert code == 0
        wait_until(lambda: sum(company.replicas.shares()) == 256, SERVE_SECONDS, "the others to own all shards")
        assert company.poll(other, person) != [each.name]
        each.restart()
        company.replicas.get_balanced()
    assert clients.finish(30) == 0, "every webhook is answered by 202 in the end"
    assert clients.attempts.failed == []
    assert clients.attempts.healed, "some met a replica that was away"
    company.poll(company.one, *PEOPLE)


def set_worker(asked: Replica, person: SimulatedUser, **settings: object) -> None:
    path = f"/api/users/{person.user}/connections/{PROVIDER}/worker"
    web.patch(f"{asked.url}{path}", json=settings).raise_for_status()
