"""Server that answers for several services of AWS on this machine, optionally with a certificate of a private CA."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import anyio
from aiohttp import web
from anyio.abc import SocketAttribute, SocketStream
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

KEY_ID, EXPIRY = "AKIDOFAROLE", "2999-01-01T00:00:00Z"
EXPIRY_MS = 32_472_144_000_000
ROLE = {"AccessKeyId": KEY_ID, "SecretAccessKey": "secret", "Token": "token", "Expiration": EXPIRY}
STS = (
    "<{action}Response><{action}Result><Credentials><AccessKeyId>{key}</AccessKeyId><SecretAccessKey>secret"
    "</SecretAccessKey><SessionToken>token</SessionToken><Expiration>{expiry}</Expiration></Credentials>"
    "</{action}Result></{action}Response>"
)


class PrivateAws:
    """Records the requests for DynamoDB and gives credentials as STS, SSO, IMDS and a container agent do."""

    def __init__(self) -> None:
        self.endpoint = ""
        self.authorizations: list[str] = []
        self.throttled = False

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        if "X-Amz-Target" not in request.headers:
            return await self._give_credentials(request)
        self.authorizations.append(request.headers["Authorization"])
        if self.throttled:
            return web.json_response({"__type": "x#ThrottlingException"}, status=400)
        return web.json_response({}, content_type="application/x-amz-json-1.0")

    async def _give_credentials(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path.endswith("/token"):
            return web.Response(text="metadata token")
        if request.path == "/latest/meta-data/iam/security-credentials/":
            return web.Response(text="a-role")
        if request.path.startswith("/federation/credentials"):
            role = {"accessKeyId": KEY_ID, "secretAccessKey": "s", "sessionToken": "t", "expiration": EXPIRY_MS}
            return web.json_response({"roleCredentials": role})
        if request.method == "POST":
            action = (await request.text()).partition("Action=")[2].partition("&")[0]
            return web.Response(text=STS.format(action=action, key=KEY_ID, expiry=EXPIRY), content_type="text/xml")
        return web.json_response(ROLE | {"Code": "Success"})


@asynccontextmanager
async def serve_private_aws(certificate: Path | None = None) -> AsyncIterator[PrivateAws]:
    server, context = PrivateAws(), None
    if certificate is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate)
    runner = web.ServerRunner(web.Server(server.answer, access_log=None), shutdown_timeout=0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    scheme = "http" if context is None else "https"
    server.endpoint = f"{scheme}://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield server
    finally:
        await runner.cleanup()


def write_certificate(folder: Path) -> Path:
    """Write a key and a self-signed certificate for 127.0.0.1 into one file, which also serves as a bundle."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "private CA")])
    now = datetime.now(UTC)  # noqa: TID251 - certificates are compared with the real time
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file = folder / "private-ca.pem"
    file.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    return file


@asynccontextmanager
async def serve_proxy() -> AsyncIterator[tuple[str, list[str]]]:
    """Serve an HTTP proxy for CONNECT. Yields its address, and a list of the targets it has connected to."""
    targets: list[str] = []

    async def forward(source: SocketStream, target: SocketStream) -> None:
        try:
            async for piece in source:
                await target.send(piece)
            await target.send_eof()
        except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
            pass

    async def connect(client: SocketStream) -> None:
        async with client:
            head = await client.receive()
            target = head.split()[1].decode()
            targets.append(target)
            host, _, port = target.rpartition(":")
            async with await anyio.connect_tcp(host, int(port)) as server, anyio.create_task_group() as tasks:
                await client.send(b"HTTP/1.1 200 OK\r\n\r\n")
                tasks.start_soon(forward, client, server)
                await forward(server, client)
                tasks.cancel_scope.cancel()

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(SocketAttribute.local_port)  # noqa: S610 - of anyio, not of Django
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, connect)
        yield f"http://127.0.0.1:{port}", targets
        tasks.cancel_scope.cancel()
