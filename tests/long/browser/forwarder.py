"""TCP forwarder: one address for several servers. A connection goes to the first of them that accepts it."""

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress

HOST = "127.0.0.1"


@contextmanager
def forward(ports: Sequence[int]) -> Iterator[int]:
    """Forward the connections of a new port of this machine, and return that port."""
    with closing(socket.create_server((HOST, 0))) as listener:
        threading.Thread(target=_accept, args=(listener, ports), daemon=True).start()
        yield listener.getsockname()[1]


def _accept(listener: socket.socket, ports: Sequence[int]) -> None:
    with suppress(OSError):  # the listener was closed
        while True:
            client, _ = listener.accept()
            server = _connect(ports)
            if server is None:
                client.close()
                continue
            for source, target in ((client, server), (server, client)):
                threading.Thread(target=_copy, args=(source, target), daemon=True).start()


def _connect(ports: Sequence[int]) -> socket.socket | None:
    for port in ports:
        with suppress(OSError):
            return socket.create_connection((HOST, port))
    return None


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
    for end in (source, target):  # an end of one direction ends both, as the death of a process does
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()
