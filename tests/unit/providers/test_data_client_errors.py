"""The HTTP client for data reads, against real servers: errors and proxies."""

import socket
from contextlib import suppress
from pathlib import Path

import anyio
import pytest
from anyio.abc import SocketStream

from bg_ingest.errors import ProviderUnavailable
from bg_ingest.providers import data_client
from bg_ingest.providers.data_client import open_data_client
from bg_ingest.providers.http import DataClient
from tests.harness.data_reads import PlainServer, answer, get, number
from tests.harness.data_reads import anyio_backend as anyio_backend  # noqa: PLC0414 - fixtures
from tests.harness.data_reads import certificate as certificate  # noqa: PLC0414 - fixtures
from tests.harness.data_reads import client as client  # noqa: PLC0414 - fixtures
from tests.harness.data_reads import plain as plain  # noqa: PLC0414 - fixtures
from tests.harness.data_reads import trusted as trusted  # noqa: PLC0414 - fixtures
from tests.harness.tls_server import ENDED, TlsServer, write_certificate


class TestErrors:
    @pytest.mark.parametrize(
        "head",
        [
            b"SSH-2.0-OpenSSH\r\n",
            b"HTTP/1.1 abc OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nx: " + bytes(100_000) + b"\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nx: no end",
            b"",
        ],
    )
    async def test_case_38_without_a_readable_head_it_is_unavailable(
        self, plain: PlainServer, client: DataClient, head: bytes, caplog: pytest.LogCaptureFixture
    ) -> None:
        plain.script, plain.is_closing = head, True
        with pytest.raises(ProviderUnavailable) as raised:
            await get(client, plain.url)
        for quoted in ("startDate", "of-one-user", "SSH"):
            assert quoted not in str(raised.value) + caplog.text

    async def test_case_38_a_refused_connection_is_unavailable(self, client: DataClient) -> None:
        with pytest.raises(ProviderUnavailable, match="No answer: ClientConnectorError"):
            await get(client, "http://127.0.0.1:9")

    async def test_case_38_an_unknown_host_is_unavailable(
        self, client: DataClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: object, **__: object) -> None:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")

        monkeypatch.setattr(socket, "getaddrinfo", fail)
        with pytest.raises(ProviderUnavailable, match="No answer: ClientConnectorDNSError"):
            await get(client, "http://api.test")

    async def test_case_38_a_certificate_that_is_not_trusted_is_unavailable(
        self, tmp_path: Path, client: DataClient
    ) -> None:
        write_certificate(tmp_path / "other.pem")
        async with TlsServer(tmp_path / "other.pem").running() as server:
            with pytest.raises(ProviderUnavailable, match="No answer: ClientConnectorCertificateError"):
                await get(client, server.url)
            assert server.requests == []

    async def test_case_38_a_server_without_tls_is_unavailable(self, plain: PlainServer, client: DataClient) -> None:
        with pytest.raises(ProviderUnavailable, match="No answer: ClientConnectorSSLError"):
            await get(client, plain.url.replace("http:", "https:"))

    @pytest.mark.parametrize(
        ("bound", "scheme", "error"),
        [("CONNECT_SECONDS", "https", "ConnectionTimeoutError"), ("READ_SECONDS", "http", "SocketTimeoutError")],
    )
    async def test_case_38_a_silent_server_is_unavailable(
        self, plain: PlainServer, monkeypatch: pytest.MonkeyPatch, bound: str, scheme: str, error: str
    ) -> None:
        plain.script = b""
        monkeypatch.setattr(data_client, bound, 0.02)
        async with open_data_client() as client:
            with pytest.raises(ProviderUnavailable, match=f"No answer: {error}"):
                await get(client, plain.url.replace("http:", f"{scheme}:"))
        assert len(plain.requests) == 1


class TestProxies:
    @pytest.mark.parametrize("name", ["HTTP_PROXY", "ALL_PROXY"])
    async def test_another_host_is_reached_through_the_proxy(
        self, plain: PlainServer, client: DataClient, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(name, plain.url.replace("//", "//us:p%40ss@"))
        assert [await number(client, "http://api.test/egvs") for _ in range(2)] == [1, 1]
        request = plain.requests[1]
        assert request.startswith(b"GET http://api.test/egvs?")
        assert b"Proxy-Authorization: Basic dXM6cEBzcw==\r\n" in request

    async def test_tls_runs_through_a_tunnel_of_the_proxy(
        self, plain: PlainServer, certificate: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def copy(source: SocketStream, target: SocketStream) -> None:
            with suppress(*ENDED):
                async for part in source:
                    await target.send(part)
                await target.send_eof()

        async with TlsServer(certificate).running() as server:

            async def relay(client: SocketStream) -> None:
                await client.send(b"HTTP/1.1 200 OK\r\n\r\n")
                target = await anyio.connect_tcp("127.0.0.1", int(server.url.rpartition(":")[2]))
                async with target, anyio.create_task_group() as group:
                    group.start_soon(copy, client, target)
                    await copy(target, client)

            monkeypatch.setenv("ALL_PROXY", plain.url)
            plain.script, plain.is_closing = relay, True
            async with open_data_client() as client:
                assert [await number(client, "https://api.test/egvs") for _ in range(2)] == [1, 1]
            assert len(plain.requests) == 1
            assert b"of-one-user" not in plain.requests[0]

    async def test_a_proxy_that_refuses_a_tunnel_is_unavailable_and_gets_no_secret(
        self, plain: PlainServer, client: DataClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HTTPS_PROXY", plain.url)
        plain.script = answer(b"", status="407 Proxy Authentication Required")
        with pytest.raises(ProviderUnavailable, match="No answer: ClientHttpProxyError"):
            await get(client, "https://api.test/egvs")
        (request,) = plain.requests
        assert request.startswith(b"CONNECT api.test:443 ")
        assert b"of-one-user" not in request

    async def test_a_host_of_no_proxy_is_reached_past_the_proxy(
        self, plain: PlainServer, client: DataClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HTTP_PROXY", plain.url)
        monkeypatch.setenv("no_proxy", "other.test,127.0.0.2")  # it precedes NO_PROXY, and a command sets it
        with pytest.raises(ProviderUnavailable, match="ClientConnectorError"):
            await get(client, "http://127.0.0.2:9")

    @pytest.mark.parametrize("name", ["HTTP_PROXY", "ALL_PROXY"])
    async def test_loopback_is_reached_past_a_proxy(
        self, plain: PlainServer, client: DataClient, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(name, "http://127.0.0.1:9")
        assert await number(client, plain.url) == 1
