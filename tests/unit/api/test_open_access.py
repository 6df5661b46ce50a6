"""Open API of development: for this machine, until a key is made."""

import anyio
import pytest

from bg_ingest.domain.access import Scope
from tests.harness.api import ApiHarness, reading


@pytest.mark.parametrize(
    "host",
    ["localhost", "localhost:5001", "LOCALHOST:5001", "127.0.0.1:5001", "192.168.1.7", "[::1]:5001", "ingest.test"],
)
async def test_our_own_names_and_addresses_are_answered(api: ApiHarness, host: str) -> None:
    await api.add_readings(reading(-1))
    assert (await api.http.get("/api/bg/ada/latest", headers={"Host": host})).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:5001", "localhost.evil.example", "127.0.0.1.evil.example", "evil.example:x"]
)
async def test_a_page_that_gave_us_its_own_name_is_not(api: ApiHarness, host: str) -> None:
    before = api.table.asked
    for method, path in (("GET", "/api/bg/ada/latest"), ("POST", "/api/users/ada/connections/acme"), ("GET", "/x")):
        answer = await api.http.request(method, path, headers={"Host": host})
        assert (answer.status_code, answer.json()["type"]) == (421, "unknown-host")
    assert api.table.asked == before
    assert (await api.http.get("/health/live", headers={"Host": host})).status_code == 200


async def test_the_first_key_closes_it_and_no_name_matters_any_more(api: ApiHarness) -> None:
    await api.add_readings(reading(-1))
    assert (await api.http.get("/api/bg/ada/latest")).status_code == 200
    made = await api.services.api_keys.create("mine", {Scope.READINGS_READ})
    await anyio.sleep(30)
    assert (await api.http.get("/api/bg/ada/latest")).status_code == 401
    assert (await api.http.get("/nowhere")).status_code == 401
    right = {"Authorization": f"Bearer {made.text.reveal()}", "Host": "bg.example"}
    assert (await api.http.get("/api/bg/ada/latest", headers=right)).status_code == 200


async def test_while_it_is_open_no_credential_is_checked(api: ApiHarness) -> None:
    await api.add_readings(reading(-1))
    answer = await api.http.get("/api/bg/ada/latest", headers={"Authorization": "Bearer wrong"})
    assert answer.status_code == 200
