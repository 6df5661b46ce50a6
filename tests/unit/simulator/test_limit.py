"""Call limit of an hour, for all users together."""

from tests.harness.simulator_visitor import SetClock
from tests.unit.simulator.conftest import Visit


async def test_calls_of_an_hour_are_limited_for_all_users_together(visit: Visit, clock: SetClock) -> None:
    visitor = visit(calls_per_hour=5)
    await visitor.connect("SandboxUser1")
    await visitor.connect("SandboxUser2")
    assert [(await visitor.get("dataRange")).status_code for _ in range(4)] == [200, 200, 200, 429]
    assert (await visitor.rotate()).status_code == 429
    clock.pass_time(minutes=59)
    assert (await visitor.get("dataRange")).status_code == 429
    clock.pass_time(minutes=1)
    assert (await visitor.get("dataRange")).status_code == 200
    limit = (await visitor.http.get("/admin/state")).json()["limit"]
    assert limit == {"calls_per_hour": 5, "taken": 1, "most_taken": 5, "refused": 3}
