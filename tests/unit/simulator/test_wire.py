"""Record ids, times and user ids in Dexcom's shapes."""

from datetime import UTC, datetime, timedelta

from tests.harness.simulator_visitor import SetClock
from tests.unit.simulator.conftest import Visit


async def test_record_ids_are_stable_and_distinct(visit: Visit, clock: SetClock) -> None:
    visitor = visit()
    await visitor.connect()
    window = clock.at - timedelta(days=1), clock.at - timedelta(minutes=5)
    ids = [record["recordId"] for record in await visitor.records(*window)]
    assert len(set(ids)) == len(ids)
    clock.pass_time(minutes=1)
    assert [record["recordId"] for record in await visitor.records(*window)] == ids


async def test_phones_send_utc_offsets_and_receivers_none(visit: Visit, clock: SetClock) -> None:
    visitor = visit()
    window = clock.at - timedelta(hours=1), clock.at
    await visitor.connect("SandboxUser1")
    phone = (await visitor.records(*window))[0]
    assert phone["systemTime"].endswith("Z")
    assert phone["displayTime"].endswith("+02:00"), "Berlin in summer"
    await visitor.connect("SandboxUser4")
    receiver = (await visitor.records(*window))[0]
    assert receiver["displayDevice"] == "receiver"
    system, display = (datetime.fromisoformat(receiver[name]) for name in ("systemTime", "displayTime"))
    assert system.tzinfo is display.tzinfo is None
    assert display - system == timedelta(hours=-7), "Los Angeles in summer"


async def test_a_user_has_one_id_per_client(visit: Visit) -> None:
    visitor, foreign = visit(), visit(seed=2)
    ids = set()
    for number in (1, 2):
        await visitor.connect(f"SandboxUser{number}")
        at = datetime(2026, 6, 1, tzinfo=UTC)
        user_id = (await visitor.window(at, at)).json()["userId"]
        assert (await visitor.get("dataRange")).json()["userId"] == user_id
        assert len(user_id) == 64
        assert int(user_id, 16)
        ids.add(user_id)
    await foreign.connect("SandboxUser1")
    ids.add((await foreign.get("dataRange")).json()["userId"])
    assert len(ids) == 3
