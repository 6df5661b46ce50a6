"""More users than the limit can serve at their intervals: all are polled less often, and all alike."""

from collections import Counter
from datetime import timedelta

import anyio
import msgspec
import pytest

from bg_ingest.domain.call_budget import BudgetKey, CallDemand, ProviderLimit
from bg_ingest.domain.connections import DirectoryRow, PollDefaults
from bg_ingest.domain.ids import ConnectionId, UserId
from bg_ingest.domain.polling import Outcome
from bg_ingest.domain.readings import Origin
from bg_ingest.services.budget.demand import SUSTAINED_SECONDS, Demand
from bg_ingest.services.budget.waiting import CallsPerPoll
from bg_ingest.simulator import SimulatorOptions
from tests.fakes.observer import RecordingObserver
from tests.harness.scrape import Scrape
from tests.harness.service import PROVIDER, open_service

LIMIT = 250
USERS = [f"user-{number}" for number in range(12)]
"""Users with a demand of 720 calls an hour, of which 250 are available."""

SIMULATED = SimulatorOptions(users=len(USERS), cadence_minutes=1, calls_per_hour=LIMIT, days_back=1)
EVERY_MINUTE = PollDefaults(poll_interval=timedelta(minutes=1), backfill_days=1, overlap=timedelta(minutes=5))


@pytest.mark.slow
async def test_two_services_slow_down_alike_and_all_users_have_as_many_polls() -> None:
    observer = RecordingObserver()
    async with open_service(simulated=SIMULATED, defaults=EVERY_MINUTE, observers=[observer]) as service:
        for number, user in enumerate(USERS):
            assert (await service.connect(user, f"SandboxUser{number + 1}")).status_code == 200
            await anyio.sleep(30)
        other, workers = service.new_process()
        async with service.running(), workers.running(other):
            await anyio.sleep(1800)
            observer.events.clear()
            slowdowns = [each.slowdown for services in (service.services, other) for each in services.demand.states()]
            metrics = Scrape(service.metrics.text().decode())  # without a request: at the same moment
            await anyio.sleep(5400)
        assert service.simulator.limit.refused == 0
        reports = observer.poll_reports()
        outcomes = Counter(report.result.outcome for _, report in reports)
        polls = Counter(
            connection.user
            for connection, report in reports
            if report.origin is Origin.LIVE and report.result.outcome in (Outcome.READ, Outcome.NOTHING_NEW)
        )
        late = service.clock.now() - timedelta(minutes=30)
        wearing = [  # hardly silent at any time, because a silent sensor is polled less often
            polls[UserId(user)]
            for number, user in enumerate(USERS)
            if len(service.true_values(f"SandboxUser{number + 1}", late - timedelta(hours=2), late)) > 115
        ]
    assert len(slowdowns) == 2
    assert min(slowdowns) > 3
    assert max(slowdowns) < 1.05 * min(slowdowns)
    assert metrics("poll_slowdown", provider=PROVIDER, region="us") == pytest.approx(slowdowns[0])
    demand_per_second = metrics("budget_wanted_per_second", provider=PROVIDER, region="us")
    assert demand_per_second / (0.95 * ProviderLimit(LIMIT).rate) == pytest.approx(slowdowns[0]), (
        "demand divided by the available calls"
    )
    assert len(wearing) > len(USERS) / 3
    assert max(wearing) < 1.6 * min(wearing)
    assert outcomes[Outcome.BUDGET_SPENT] < 0.1 * outcomes.total(), "hardly any poll finds no call"
    assert sum(polls.values()) > 0.6 * 1.5 * LIMIT


async def test_one_process_slows_down_by_its_own_demand_and_several_by_all() -> None:
    async with open_service(simulated=SimulatorOptions(calls_per_hour=3600), defaults=EVERY_MINUTE) as service:
        demands = service.services.demand
        app = service.services.budget.budget_key(PROVIDER, "us")
        assert demands.slowdown(app) == 1.0
        one = demands.for_directory_row(DirectoryRow(ConnectionId(UserId("ada"), PROVIDER), 60, paused=False))
        assert one == CallDemand(app, 1 / 60)
        fits = int(
            ProviderLimit(3600).rate
            * 0.95
            * 60
            / CallsPerPoll(ProviderLimit(3600), EVERY_MINUTE.poll_interval).estimate
        )
        for _ in range(fits):
            demands.change(None, one)
        assert demands.slowdown(app) == 1.0
        for _ in range(fits):
            demands.change(None, one)
        assert demands.slowdown(app) == pytest.approx(2, rel=0.02)
        demands.update_others([{str(app): demands.to_publish()[str(app)]}, {"another": 9.0}])
        assert demands.slowdown(app) == pytest.approx(4, rel=0.02)
        for _ in range(fits):
            demands.change(one, None)
        demands.update_others(())
        assert demands.slowdown(app) == 1.0
        assert [each.slowdown for each in demands.states()] == [1.0]


async def test_the_demand_of_a_connection_follows_its_own_interval_or_the_default() -> None:
    async with open_service(defaults=PollDefaults(poll_interval=timedelta(minutes=15))) as service:
        demands: Demand = service.services.demand
        listed = demands.for_directory_row(DirectoryRow(ConnectionId(UserId("ada"), PROVIDER), None, paused=False))
        assert listed
        assert listed.per_second == 1 / 900
        assert demands.for_directory_row(DirectoryRow(ConnectionId(UserId("ada"), "gone"), None, paused=False)) is None
        assert demands.slowdown(BudgetKey("gone", "x", "us")) == 1.0


@pytest.mark.slow
async def test_connections_count_as_demand_while_the_actors_poll_them() -> None:
    async with open_service(defaults=PollDefaults(backfill_days=1)) as service:
        await service.connect("ada")
        async with service.running():
            await anyio.sleep(60)
            (demand_per_second,) = service.services.demand.to_publish().values()
            assert demand_per_second == pytest.approx(CallsPerPoll(ProviderLimit(60_000)).estimate / 900, rel=0.02)
            await service.api.patch(
                f"/api/users/ada/connections/{PROVIDER}/worker", json={"poll_interval_seconds": 300}
            )
            await anyio.sleep(120)
            (demand_per_second,) = service.services.demand.to_publish().values()
            assert demand_per_second == pytest.approx(CallsPerPoll(ProviderLimit(60_000)).estimate / 300, rel=0.02)
            await service.api.delete(f"/api/users/ada/connections/{PROVIDER}")
            await anyio.sleep(120)
            assert service.services.demand.to_publish() == {}


async def test_demand_counted_twice_during_a_hand_over_causes_no_slowdown_and_lasting_demand_does() -> None:
    async with open_service(simulated=SimulatorOptions(calls_per_hour=400), defaults=EVERY_MINUTE) as service:
        await service.connect("ada")
        connection, demands = await service.connection("ada"), service.services.demand
        app = service.services.budget.budget_key(PROVIDER, "us")
        all_there_is = 0.95 * ProviderLimit(400).rate

        async def slowdown_after(seconds: float) -> float:
            for _ in range(int(seconds)):
                await anyio.sleep(1)
                demands.sustained_slowdown(connection)
            return demands.sustained_slowdown(connection)

        demands.update_others([{str(app): all_there_is * 0.9}])
        assert await slowdown_after(60) == 1
        demands.update_others([{str(app): all_there_is * 0.9}, {str(app): all_there_is / 2}])
        assert await slowdown_after(15) == 1
        assert demands.slowdown(app) > 1.3, "the metric shows the present demand"
        demands.update_others([{str(app): all_there_is * 0.9}])
        assert await slowdown_after(60) == 1
        demands.update_others([{str(app): all_there_is * 2}])
        assert await slowdown_after(2 * SUSTAINED_SECONDS + 2) == pytest.approx(2)
        demands.update_others(())
        assert await slowdown_after(1) == 1


@pytest.mark.slow
async def test_a_joining_process_skips_no_slot_for_demand_still_counted_by_the_previous_owners() -> None:
    async with open_service(
        simulated=msgspec.structs.replace(SIMULATED, calls_per_hour=900), defaults=EVERY_MINUTE
    ) as service:
        for number, user in enumerate(USERS):
            await service.connect(user, f"SandboxUser{number + 1}")
        connection, another = await service.connection(USERS[0]), service.replica()
        demands, app = another.services.demand, service.services.budget.budget_key(PROVIDER, "us")
        async with service.running():
            await anyio.sleep(120)
            most, requested = 1.0, 0.0
            async with another.workers.running(another.services):
                for _ in range(240):
                    await anyio.sleep(0.25)
                    if demands.to_publish():  # only a poll asks for calls
                        most = max(most, demands.slowdown(app))
                        requested = max(requested, demands.sustained_slowdown(connection))
    assert most > 1.1, "for a moment both processes count the shards of a hand-over"
    assert requested == 1.0


@pytest.mark.slow
async def test_a_new_connection_slows_no_other_down() -> None:
    """Two calls per connect are made once. Counted as calls per poll, they would make 3,000 users polled too seldom."""
    async with open_service(simulated=SimulatorOptions(users=12, calls_per_hour=600), defaults=EVERY_MINUTE) as service:
        budget = service.services.budget
        expected = CallsPerPoll(ProviderLimit(600), EVERY_MINUTE.poll_interval).estimate
        for number, user in enumerate(USERS):
            assert (await service.connect(user, f"SandboxUser{number + 1}")).status_code == 200
            await anyio.sleep(30)
        app = budget.budget_key(PROVIDER, "us")
        assert budget.limiters[app].granted >= 2 * len(USERS)
        assert budget.calls_per_poll(app) == pytest.approx(expected)


async def test_while_not_all_are_scheduled_the_others_are_expected_to_demand_as_much() -> None:
    async with open_service() as service:
        demands = service.services.demand
        one = demands.for_directory_row(DirectoryRow(ConnectionId(UserId("ada"), PROVIDER), 60, paused=False))
        demands.change(None, one)
        (all_of_it,) = demands.to_publish().values()
        demands.update_loaded_fraction(0.25)
        assert demands.to_publish() == dict.fromkeys(demands.to_publish(), 4 * all_of_it)
