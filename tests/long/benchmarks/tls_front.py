"""TLS in front of a server of this machine, as a process of its own, so that its processor time counts for nobody.

python -m tests.long.benchmarks.tls_front CERTIFICATE PORT TARGET_PORT
"""

import ssl
import sys
from contextlib import suppress
from pathlib import Path

import anyio
from anyio.abc import ByteStream
from anyio.streams.tls import TLSListener

from tests.harness.tls_server import ENDED, write_certificate
from tests.integration.processes import free_port
from tests.long.chaos.processes import HOST, Process


def tls_front(folder: Path, target: Process) -> tuple[Process, Path]:
    """Return a process that serves ``target`` over TLS, and the file of its certificate, which clients must trust."""
    certificate, port = folder / "own.pem", free_port()
    write_certificate(certificate)
    arguments = str(certificate), str(port), str(target.port)
    return Process(folder, "tls", "tests.long.benchmarks.tls_front", *arguments, port=port), certificate


async def _serve(certificate: Path, port: int, target: int) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    async def forward(client: ByteStream) -> None:
        async with client, await anyio.connect_tcp(HOST, target) as server, anyio.create_task_group() as group:
            group.start_soon(_copy, client, server)
            await _copy(server, client)
            group.cancel_scope.cancel()

    tcp = await anyio.create_tcp_listener(local_host=HOST, local_port=port)
    await TLSListener(tcp, context, standard_compatible=False).serve(forward)


async def _copy(source: ByteStream, target: ByteStream) -> None:
    with suppress(*ENDED):
        async for part in source:
            await target.send(part)


if __name__ == "__main__":
    anyio.run(_serve, Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
