"""Use cases are tested without the simulator's HTTP application."""

import pytest

from tests.harness.service import open_service


async def test_a_request_to_the_simulators_http_application_fails_the_test() -> None:
    async with open_service(over_http=True) as service:
        with pytest.raises(pytest.fail.Exception, match="without the HTTP application"):
            await service.connect("ada")
