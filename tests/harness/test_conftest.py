"""Virtual time and the block of the network hold."""

import socket

import anyio
import pytest


async def test_an_hour_of_sleep_is_exact_and_takes_no_time() -> None:
    started_at = anyio.current_time()
    await anyio.sleep(3600)
    assert anyio.current_time() - started_at == pytest.approx(3600, abs=0.001)


def test_connecting_beyond_loopback_fails_the_test() -> None:
    with socket.socket() as client, pytest.raises(pytest.fail.Exception, match="loopback only"):
        client.connect(("192.0.2.1", 80))


def test_resolving_a_name_fails_the_test() -> None:
    with pytest.raises(pytest.fail.Exception, match="loopback only"):
        socket.getaddrinfo("example.com", 443)


def test_loopback_is_reachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        pass
