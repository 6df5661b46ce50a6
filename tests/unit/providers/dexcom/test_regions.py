"""Regions are separate: a person's login, token and data are all in one."""

import httpx
import pytest

from tests.harness.dexcom_answers import CREDENTIALS, ScriptedDexcom, egvs, exchange, login_url, token_pair
from tests.unit.providers.dexcom.test_client import read


@pytest.mark.parametrize("region", ["us", "ou", "jp", "sandbox"])
async def test_case_13_login_tokens_and_data_of_a_region_are_asked_of_one_host(region: str) -> None:
    given = ScriptedDexcom(
        lambda request: httpx.Response(200, content=token_pair() if request.url.path.endswith("/token") else egvs())
    )
    hosts = {httpx.URL(await login_url(given.provider, region, "state")).host}
    await exchange(given.provider, region, "code")
    await given.provider.renew(region, CREDENTIALS)
    await read(given, region=region)
    hosts |= {request.url.host for request in given.requests}
    assert len(given.requests) == 3
    assert len(hosts) == 1
