"""2,000 made-up webhooks, most of them invalid; the long run is ``make fuzz``."""

import pytest

from bg_ingest.api.webhook_auth import SignatureVerifier
from tests.fuzz import pushing
from tests.fuzz.pushing import run


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def test_none_is_let_in_that_should_not_be_and_none_is_our_fault() -> None:
    tally = run(2_000)
    assert tally.total() >= 2_000
    assert tally["401 wrong"] > 300
    assert tally["202 right"] > 100
    assert set(tally) <= {
        "401 wrong",
        "202 right",
        "400 right",
        "404 right",
        "202 twice",
        "400 twice",
        "401 twice",
        "404 twice",
    }


def test_it_would_notice_one_that_is_let_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SignatureVerifier, "find_secret", lambda *_: "fingerprint")
    with pytest.raises(AssertionError):
        run(200)


def test_it_would_notice_one_with_a_header_twice_that_is_let_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SignatureVerifier, "find_secret", lambda *_: "fingerprint")
    monkeypatch.setattr(pushing, "is_right", lambda _: None)  # webhooks with a repeated header
    with pytest.raises(AssertionError):
        run(200)
