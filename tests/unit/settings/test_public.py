"""Address at which browsers reach the service."""

import pytest

from tests.harness.settings import Load, refusal


def test_by_default_it_is_the_origin_of_the_return_address_after_a_login(load: Load) -> None:
    assert load().public_url == "http://localhost:5001"
    given = {"DEXCOM_REDIRECT_URI": "https://bg.example:8443/api/oauth/dexcom/callback"}
    assert load(**given).public_url == "https://bg.example:8443"


def test_a_slash_at_its_end_does_not_count(load: Load) -> None:
    assert load(PUBLIC_URL="https://bg.example/").public_url == "https://bg.example"


@pytest.mark.parametrize("wrong", ["https://bg.example/page", "https://bg.example/?a=b", "https://bg.example/#x"])
def test_it_has_no_path_query_or_fragment(load: Load, wrong: str) -> None:
    assert "PUBLIC_URL should be an address" in refusal(load, PUBLIC_URL=wrong)
