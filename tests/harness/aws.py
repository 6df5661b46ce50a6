"""AWS on this machine: one server of moto for a whole run, with Secrets Manager, KMS and DynamoDB."""

import logging
import socket
from collections.abc import Callable, Iterator

import pytest

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "invented", "AWS_SECRET_ACCESS_KEY": "invented"}


@pytest.fixture(scope="session")
def moto_server() -> Iterator[str]:
    """Return the server's address. Items of one test are visible to the next, so each test needs new names."""
    from moto.server import ThreadedMotoServer  # noqa: PLC0415 - takes a second to load, and few tests need it

    logging.getLogger("moto").setLevel(logging.WARNING)  # it logs request bodies, which our clients never do
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Return a function that points the AWS libraries at an address, with invented credentials."""
    from bg_ingest.adapters.aws.session import get_session  # noqa: PLC0415 - loads the AWS library

    def use(endpoint: str) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        for name, value in CREDENTIALS.items():
            monkeypatch.setenv(name, value)
        for name in ("AWS_PROFILE", "AWS_DEFAULT_REGION", "AWS_SESSION_TOKEN"):
            monkeypatch.delenv(name, raising=False)
        get_session.cache_clear()

    yield use
    get_session.cache_clear()


@pytest.fixture
def unreachable_aws(aws: Callable[[str], None]) -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
    aws(f"http://127.0.0.1:{port}")
