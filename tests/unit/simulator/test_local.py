"""The simulator as a server of its own answers this machine only."""

from typing import Any, cast

import httpx
import pytest

from bg_ingest.simulator import SimulatorOptions, create_simulator
from bg_ingest.simulator.local import LocalSimulator
from tests.harness.simulator_visitor import SetClock


@pytest.mark.parametrize(
    "headers",
    [{"Host": "evil.example"}, {"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Via": "1.1 x"}],
)
async def test_s7_its_admin_routes_refuse_pages_of_other_sites(clock: SetClock, headers: dict[str, str]) -> None:
    app = LocalSimulator(cast("Any", create_simulator(SimulatorOptions(), now=clock)))
    transport = httpx.ASGITransport(app=cast("Any", app))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost:5002") as http:
        refused = await http.post("/admin/faults", json={"kind": "throttled"}, headers=headers)
        assert refused.status_code == 403
        state = await http.get("/admin/state")
        assert (state.status_code, state.json()["faults"]) == (200, [])
