"""HTTP server over TLS on this machine, with a certificate of its own and a choice of closing connections."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import anyio
from anyio.abc import SocketAttribute
from anyio.streams.tls import TLSListener, TLSStream
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

ENDED = (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError)


class TlsServer:
    """Answers each request with the number of its connection."""

    def __init__(self, certificate: Path, *, body: bytes = b"") -> None:
        self._certificate = certificate
        self._body = body
        self.url = ""
        self.connections = 0
        self.requests: list[tuple[int, str]] = []
        """Connection and method of each request, also of those without an answer."""
        self.idle_seconds = 60.0
        """Time after which the server closes an idle connection."""
        self.dropped: set[int] = set()
        """Requests, counted from 0, at which the server closes the connection without an answer."""

    @asynccontextmanager
    async def running(self) -> AsyncIterator["TlsServer"]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._certificate)
        tcp = await anyio.create_tcp_listener(local_host="127.0.0.1")
        listener = TLSListener(tcp, context, standard_compatible=False)
        async with listener, anyio.create_task_group() as group:
            group.start_soon(listener.serve, self._serve)
            self.url = f"https://127.0.0.1:{tcp.extra(SocketAttribute.local_port)}"  # noqa: S610 - not Django's
            yield self
            group.cancel_scope.cancel()

    async def _serve(self, stream: TLSStream) -> None:
        self.connections += 1
        number = self.connections
        async with stream:
            while request := await self._receive(stream):
                self.requests.append((number, request.partition(b" ")[0].decode()))
                if len(self.requests) - 1 in self.dropped:
                    return
                body = self._body or str(number).encode()
                await stream.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)

    async def _receive(self, stream: TLSStream) -> bytes:
        """Return a request with its body; nothing at the end or after the idle time."""
        with anyio.move_on_after(self.idle_seconds):
            try:
                request = await stream.receive()
                head, _, body = request.partition(b"\r\n\r\n")
                expected = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
                while len(body) < expected:
                    body += await stream.receive()
            except ENDED:
                return b""
            return request
        return b""


def write_certificate(file: Path) -> None:
    """Write key and certificate for 127.0.0.1 and api.test; the certificate is its own authority."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "local")])
    now = datetime.now(UTC)  # noqa: TID251 - TLS compares the system's clock
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1")), x509.DNSName("api.test")]),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file.write_bytes(private + certificate.public_bytes(Encoding.PEM))
