"""Tokens: only unaltered access tokens open the data."""

import pytest

from tests.unit.simulator.conftest import Visit


@pytest.mark.parametrize("forge", ["", "nonsense", "refresh"])
async def test_only_an_access_token_opens_the_data(visit: Visit, forge: str) -> None:
    visitor = visit()
    await visitor.connect()
    visitor.access = visitor.refresh_token if forge == "refresh" else forge
    assert (await visitor.get("dataRange")).status_code == 401


async def test_a_token_altered_in_one_character_opens_nothing(visit: Visit) -> None:
    visitor = visit()
    await visitor.connect("SandboxUser1")
    await visitor.connect("SandboxUser2")
    visitor.access = visitor.access.replace("access.2.", "access.1.")
    assert (await visitor.get("dataRange")).status_code == 401
