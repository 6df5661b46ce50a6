"""The direct provider answers and fails as Dexcom's client over the HTTP application of the same simulator."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import httpx
import pytest

from bg_ingest.domain.grants import Credentials
from bg_ingest.domain.windows import Window
from bg_ingest.errors import ProviderError
from bg_ingest.ports import Answers, Done, Priority, Redirect
from bg_ingest.simulator import Simulator, SimulatorOptions
from bg_ingest.simulator.faults import (
    Damaged,
    Duplicated,
    Failed,
    Fault,
    Html,
    ReplyLost,
    Reset,
    Shuffled,
    Slow,
    Throttled,
    Truncated,
)
from tests.conftest import on
from tests.fakes.cached_simulator import cache_days
from tests.harness.service import LoopClock
from tests.harness.simulated_dexcom import SimulatedDexcom, open_dexcom

anyio_backend = on("asyncio")

FAULTS: Sequence[Fault] = [
    *(Failed(status=status) for status in (400, 401, 403, 404, 408, 429, 500, 503)),
    *(Slow(seconds=seconds) for seconds in (1, 500)),
    Throttled(),
    Throttled(retry_after=90),
    Throttled(retry_after=90, as_date=True),
    Html(),
    Reset(),
    ReplyLost(),
    Truncated(),
    Duplicated(),
    Shuffled(),
    Damaged(every=3),
]


class Client:
    """Client with the credentials of one person; records the result or the error of each call."""

    def __init__(self, dexcom: SimulatedDexcom, clock: LoopClock) -> None:
        self.dexcom = dexcom
        self.clock = clock
        self.credentials: Credentials
        self.results: list[object] = []

    async def connect(self) -> None:
        step = await self.dexcom.provider.connect("us", Answers("state"))
        assert isinstance(step, Redirect)
        back = await self.dexcom.log_in(httpx.URL(step.url).copy_merge_params({"user": "SandboxUser1"}))
        self.results.append(back)
        await self._keep(lambda: self.dexcom.provider.connect("us", Answers("state", dict(back.params))))

    async def call_all(self) -> None:
        """Make each call once. Rejected credentials stay in use, so that a lost token is seen afterwards."""
        provider = self.dexcom.provider
        now = self.clock.now()
        window = Window(now - timedelta(hours=12), now)
        await self._keep(lambda: provider.readings("us", self.credentials, window, Priority.LIVE))
        await self._keep(lambda: provider.available("us", self.credentials, Priority.LIVE))
        await self._keep(lambda: provider.renew("us", self.credentials))

    async def _keep(self, call: Callable[[], Any]) -> None:
        try:
            result = await call()
        except ProviderError as error:
            result = type(error), str(error), vars(error)
        if isinstance(result, Done):
            result = result.credentials
        if isinstance(result, Credentials):
            self.credentials = result
            result = result.content.reveal(), result.expires_at, result.renewal
        self.results.append((result, self.clock.now()))


async def results_of(fault: Fault, *, over_http: bool) -> tuple[list[object], object]:
    clock = LoopClock()
    simulator = Simulator(SimulatorOptions(days_back=2), now=clock.now)
    cache_days(simulator)
    async with open_dexcom(simulator, clock, over_http=over_http) as dexcom:
        client = Client(dexcom, clock)
        await client.connect()
        await client.call_all()
        number = simulator.add_fault(fault)
        await client.call_all()
        await client.connect()
        simulator.faults.remove(number)
        await client.call_all()
        simulator.revoke("SandboxUser1")
        await client.call_all()
        return client.results, (simulator.calls, simulator.grants.rotations, simulator.limit.taken)


@pytest.mark.parametrize("fault", FAULTS, ids=repr)
async def test_results_errors_and_their_times_are_the_same(fault: Fault) -> None:
    direct, state = await results_of(fault, over_http=False)
    over_http, state_over_http = await results_of(fault, over_http=True)
    assert direct == over_http
    assert state == state_over_http
