"""More users than the limit can serve at their intervals: all are polled less often, and all alike."""

from collections import Counter
from datetime import timedelta

import anyio
import msgspec
import pytest

from bg_ingest.domain.budget import App, Limit, Want
from bg_ingest.domain.connections import Defaults, Listed
from bg_ingest.domain.ids import ConnectionId, UserId
from bg_ingest.domain.outcomes import Ending
from bg_ingest.domain.readings import Origin
from bg_ingest.domain.turns import Plan, Turn
from bg_ingest.ports import Turns
from bg_ingest.services.demand import LASTING, Demands
from bg_ingest.services.mix import Mix
from bg_ingest.simulator import SimulatorOptions
from tests.house import PROVIDER, house
from tests.metrics.test_metrics import scraped

LIMIT = 250
USERS = [f"user-{number}" for number in range(12)]
"""They want 720 calls an hour, of which 250 are to be had."""

SIMULATED = SimulatorOptions(users=len(USERS), cadence_minutes=1, calls_per_hour=LIMIT, days_back=1)
EAGER = Defaults(poll_interval=timedelta(minutes=1), backfill_days=1, overlap=timedelta(minutes=5))


class Noted:
    """Turns that are counted."""

    def __init__(self, inner: Turns, looks: Counter[str], endings: Counter[Ending]) -> None:
        self._inner = inner
        self._looks = looks
        self._endings = endings

    async def turn(self, connection_id: ConnectionId, epoch: int, plan: Plan, *, asked: bool = False) -> Turn:
        turn = await self._inner.turn(connection_id, epoch, plan, asked=asked)
        self._endings[turn.outcome.ending] += 1
        if turn.origin is Origin.LIVE and turn.outcome.ending in (Ending.READ, Ending.NOTHING_NEW):
            self._looks[connection_id.user] += 1
        return turn


async def test_two_services_stretch_alike_and_everybody_has_as_many_looks() -> None:
    looks, endings = Counter[str](), Counter[Ending]()
    async with house(simulated=SIMULATED, defaults=EAGER) as home:
        for number, user in enumerate(USERS):
            assert (await home.connect(user, f"SandboxUser{number + 1}")).status_code == 200
            await anyio.sleep(30)
        other, workers = home.twin()
        for services in (home.services, other):
            services.turns = Noted(services.turns, looks, endings)
        async with home.running(), workers.running(other):
            await anyio.sleep(1800)
            looks.clear()
            endings.clear()
            stretches = [each.stretch for services in (home.services, other) for each in services.demands.states()]
            metrics = await scraped(home)
            await anyio.sleep(5400)
        assert home.simulator.limit.refused == 0
        late = home.clock.now() - timedelta(minutes=30)
        wearing = [  # hardly silent at any time: who is silent is looked at less often
            looks[user]
            for number, user in enumerate(USERS)
            if len(home.truth(f"SandboxUser{number + 1}", late - timedelta(hours=2), late)) > 115
        ]
    assert len(stretches) == 2
    assert min(stretches) > 3
    assert max(stretches) < 1.05 * min(stretches)
    assert metrics("budget_stretch", provider=PROVIDER, region="us") == pytest.approx(stretches[0])
    wanted = metrics("budget_wanted_per_second", provider=PROVIDER, region="us")
    assert wanted / (0.95 * Limit(LIMIT).rate) == pytest.approx(stretches[0]), "what is wanted by what there is"
    assert len(wearing) > len(USERS) / 3
    assert max(wearing) < 1.6 * min(wearing)
    assert endings[Ending.BUDGET_SPENT] < 0.1 * endings.total(), "hardly anybody comes in vain"
    assert sum(looks.values()) > 0.6 * 1.5 * LIMIT


async def test_alone_a_process_stretches_by_its_own_demand_and_together_by_all() -> None:
    async with house(simulated=SimulatorOptions(calls_per_hour=3600), defaults=EAGER) as home:
        demands = home.services.demands
        app = home.services.budget.app(PROVIDER, "us")
        assert demands.stretch(app) == 1.0
        one = demands.listed(Listed(ConnectionId(UserId("ada"), PROVIDER), 60, paused=False))
        assert one == Want(app, 1 / 60)
        fits = int(Limit(3600).rate * 0.95 * 60 / Mix(Limit(3600), EAGER.poll_interval).calls_per_look)
        for _ in range(fits):
            demands.change(None, one)
        assert demands.stretch(app) == 1.0
        for _ in range(fits):
            demands.change(None, one)
        assert demands.stretch(app) == pytest.approx(2, rel=0.02)
        demands.others = lambda: [{str(app): demands.published()[str(app)]}, {"another": 9.0}]
        assert demands.stretch(app) == pytest.approx(4, rel=0.02)
        for _ in range(fits):
            demands.change(one, None)
        demands.others = tuple
        assert demands.stretch(app) == 1.0
        assert [each.stretch for each in demands.states()] == [1.0]


async def test_a_connection_wants_by_its_own_interval_or_the_services() -> None:
    async with house(defaults=Defaults(poll_interval=timedelta(minutes=15))) as home:
        demands: Demands = home.services.demands
        listed = demands.listed(Listed(ConnectionId(UserId("ada"), PROVIDER), None, paused=False))
        assert listed
        assert listed.per_second == 1 / 900
        assert demands.listed(Listed(ConnectionId(UserId("ada"), "gone"), None, paused=False)) is None
        assert demands.stretch(App("gone", "x", "us")) == 1.0


async def test_what_the_actors_poll_is_wanted_while_they_do() -> None:
    async with house(defaults=Defaults(backfill_days=1)) as home:
        await home.connect("ada")
        async with home.running():
            await anyio.sleep(60)
            (wanted,) = home.services.demands.published().values()
            assert wanted == pytest.approx(Mix(Limit(60_000)).calls_per_look / 900, rel=0.02)
            await home.api.patch(f"/api/users/ada/connections/{PROVIDER}/worker", json={"poll_interval_seconds": 300})
            await anyio.sleep(120)
            (wanted,) = home.services.demands.published().values()
            assert wanted == pytest.approx(Mix(Limit(60_000)).calls_per_look / 300, rel=0.02)
            await home.api.delete(f"/api/users/ada/connections/{PROVIDER}")
            await anyio.sleep(120)
            assert home.services.demands.published() == {}


def test_refreshes_count_towards_what_a_look_costs() -> None:
    mix = Mix(Limit(6_000))
    expected = mix.calls_per_look
    assert expected == pytest.approx(1 + 1 / 8 + 1 / 96)
    assert Mix(Limit(6_000), timedelta(minutes=1)).calls_per_look == pytest.approx(1 + 1 / 120 + 1 / 1440)
    for _ in range(10_000):
        mix.count(look=True)
        mix.count(look=False)
    assert mix.calls_per_look == pytest.approx(2, rel=0.02)
    for _ in range(20_000):
        mix.count(look=True)
    assert mix.calls_per_look < 1.02, "what was long ago is forgotten"


async def test_what_two_processes_count_while_they_hand_over_stretches_nothing_and_what_lasts_does() -> None:
    async with house(simulated=SimulatorOptions(calls_per_hour=400), defaults=EAGER) as home:
        await home.connect("ada")
        connection, demands = await home.connection("ada"), home.services.demands
        app = home.services.budget.app(PROVIDER, "us")
        all_there_is = 0.95 * Limit(400).rate

        async def stretched_after(seconds: float) -> float:
            for _ in range(int(seconds)):
                await anyio.sleep(1)
                demands.stretch_of(connection)
            return demands.stretch_of(connection)

        demands.others = lambda: [{str(app): all_there_is * 0.9}]
        assert await stretched_after(60) == 1
        demands.others = lambda: [{str(app): all_there_is * 0.9}, {str(app): all_there_is / 2}]
        assert await stretched_after(15) == 1
        assert demands.stretch(app) > 1.3, "the metric says what is wanted just now"
        demands.others = lambda: [{str(app): all_there_is * 0.9}]
        assert await stretched_after(60) == 1
        demands.others = lambda: [{str(app): all_there_is * 2}]
        assert await stretched_after(2 * LASTING + 2) == pytest.approx(2)
        demands.others = tuple
        assert await stretched_after(1) == 1


async def test_who_joins_leaves_no_slot_out_for_what_is_still_counted_by_those_who_gave() -> None:
    async with house(simulated=msgspec.structs.replace(SIMULATED, calls_per_hour=900), defaults=EAGER) as home:
        for number, user in enumerate(USERS):
            await home.connect(user, f"SandboxUser{number + 1}")
        connection, another = await home.connection(USERS[0]), home.replica()
        demands, app = another.services.demands, home.services.budget.app(PROVIDER, "us")
        async with home.running():
            await anyio.sleep(120)
            most, asked = 1.0, 0.0
            async with another.workers.running(another.services):
                for _ in range(240):
                    await anyio.sleep(0.25)
                    if demands.published():  # only who polls asks
                        most = max(most, demands.stretch(app))
                        asked = max(asked, demands.stretch_of(connection))
    assert most > 1.1, "for a moment both count what changes hands"
    assert asked == 1.0


async def test_who_connects_stretches_nobodys_interval() -> None:
    """Two calls of each that come once: by a look that costs them too, 3,000 people would all be polled too seldom."""
    async with house(simulated=SimulatorOptions(users=12, calls_per_hour=600), defaults=EAGER) as home:
        budget = home.services.budget
        expected = Mix(Limit(600), EAGER.poll_interval).calls_per_look
        for number, user in enumerate(USERS):
            assert (await home.connect(user, f"SandboxUser{number + 1}")).status_code == 200
            await anyio.sleep(30)
        app = budget.app(PROVIDER, "us")
        assert budget.tills[app].given >= 2 * len(USERS)
        assert budget.calls_per_look(app) == pytest.approx(expected)


async def test_while_not_all_are_seated_the_others_are_expected_to_want_as_much() -> None:
    async with house() as home:
        demands = home.services.demands
        one = demands.listed(Listed(ConnectionId(UserId("ada"), PROVIDER), 60, paused=False))
        demands.change(None, one)
        (all_of_it,) = demands.published().values()
        demands.seated = lambda: 0.25
        assert demands.published() == dict.fromkeys(demands.published(), 4 * all_of_it)
