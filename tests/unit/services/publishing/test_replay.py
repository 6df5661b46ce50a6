"""Changes that a consumer lost are published again under their former ids."""

import anyio
import pytest

from bg_ingest.domain.ids import UserId
from bg_ingest.errors import NotFound
from bg_ingest.services.publishing.replay import replay
from tests.harness.connected_user import ADA, ConnectedUser


async def test_changes_are_published_again_from_a_number_on(ada: ConnectedUser) -> None:
    async with ada.service.running():
        await anyio.sleep(3600)
        before = ada.service.event_numbers("ada")
        last = before[-1]
        again = await replay(ada.services.store, ADA.user, 3)
        await anyio.sleep(100)
        after = ada.service.event_numbers("ada")[len(before) :]
        assert again == last - 2
        assert after[:again] == list(range(3, last + 1))
        assert await replay(ada.services.store, ADA.user, 2, 4) == 3


async def test_expired_changes_are_not_published(ada: ConnectedUser) -> None:
    assert await replay(ada.services.store, ADA.user, 10_000) == 0
    with pytest.raises(NotFound):
        await replay(ada.services.store, UserId("nobody"), 1)
