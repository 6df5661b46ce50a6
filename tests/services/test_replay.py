"""Changes that a consumer lost are told again, under the ids they had."""

import anyio
import pytest

from bg_ingest.domain.ids import UserId
from bg_ingest.errors import Unknown
from bg_ingest.services.replay import replay
from tests.home import ADA, Home


async def test_changes_are_told_again_from_a_number_on(home: Home) -> None:
    async with home.house.running():
        await anyio.sleep(3600)
        before = home.house.told_numbers("ada")
        last = before[-1]
        again = await replay(home.services.store, ADA.user, 3)
        await anyio.sleep(100)
        after = home.house.told_numbers("ada")[len(before) :]
        assert again == last - 2
        assert after[:again] == list(range(3, last + 1))
        assert await replay(home.services.store, ADA.user, 2, 4) == 3


async def test_what_is_not_kept_is_not_told(home: Home) -> None:
    assert await replay(home.services.store, ADA.user, 10_000) == 0
    with pytest.raises(Unknown):
        await replay(home.services.store, UserId("nobody"), 1)
