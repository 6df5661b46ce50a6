"""granian as ``bg-ingest`` runs it: an exclusive port, a drain that starts at SIGTERM, meaningful exit codes."""

import asyncio  # noqa: TID251 - the loop of granian's worker
import importlib
import multiprocessing
import os
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import sniffio
from granian import _signals
from granian._granian import SocketHolder, WorkerSignal
from granian.constants import HTTPModes, Interfaces, Loops
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.server.mp import MPServer

from bg_ingest.addresses import AddressUnusable, listen_at
from bg_ingest.request_heads import MAX_HEAD_BYTES, App, HeadLimits
from workers.runtime import DRAIN_SIGNAL

ROOT = Path(__file__).parents[1]
"""Folder of app.py and the packages, in the source tree as in site-packages."""
KILL_TIMEOUT_SECONDS = 30
"""From SIGTERM until a worker is killed: longer than its drain, shorter than a container's grace period (40 s)."""
KEEP_ALIVE_SECONDS = 75
"""Default time from the end of a request to the head of the next one on the same connection."""
READ_TIMEOUT_MS = 20_000
"""Time for a client to acknowledge sent data, after which the system ends the connection. A stalled client holds
about a MB in the server. The time also passes while the receive window of the client has no room for the next TCP
segment (up to 64 KB). A client that reads only some KB a second is therefore disconnected as well."""
BACKLOG = 1024
MAX_CONNECTIONS = 8_192
"""Concurrent connections; further ones wait until others end. Far above the usual 1,024, because a flood of half-sent
requests would occupy all 1,024 until their timeouts."""
RESERVED_FILES = 256
"""Open files besides connections: the store, the broker, calls to providers."""
MAX_FILES = MAX_CONNECTIONS + RESERVED_FILES
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
CLEAN_EXIT_CODES = {0, *(-number for number in STOP_SIGNALS)}
"""Exit codes of a stopped worker: negative if it did not handle signals yet."""


class PortTaken(Exception):
    """The address is not available; the text gives the reason and says what to do."""


def listen(host: str, port: int) -> socket.socket:
    """Bind and listen, or raise ``PortTaken``; port 0 selects a free one.

    granian would bind with SO_REUSEPORT, and two servers would silently share the port's requests.
    """
    try:
        listener = listen_at(host, port, backlog=BACKLOG)
    except AddressUnusable as error:
        raise PortTaken(
            f"Cannot listen on {error}: stop the program that uses it, or choose another HOST or PORT."
        ) from error
    # Connections inherit the options of their listener. Without TCP_NODELAY, the second write of an answer is held back
    # (Nagle's algorithm) until the client's delayed acknowledgement of the first one, for about 40 ms.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, READ_TIMEOUT_MS)
    return listener


def max_connections() -> int:
    """Raise the limit of open files as far as the system permits, and return the resulting limit of connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= soft < MAX_FILES:
        soft = MAX_FILES if hard < 0 else min(MAX_FILES, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return MAX_CONNECTIONS if soft < 0 else max(1, min(MAX_CONNECTIONS, soft - RESERVED_FILES))


class Server(MPServer):
    """Server with one worker process. The worker calls ``load`` and serves the returned ASGI app on ``listener``.

    ``serve()`` blocks. It returns after a clean stop by SIGTERM or SIGINT. It raises ``SystemExit(1)`` if the worker
    failed, stopped by itself (a crash of the runtime) or was killed.
    """

    def __init__(
        self,
        load: Callable[[], App],
        listener: socket.socket,
        *,
        reload: bool = False,
        kill_timeout: int = KILL_TIMEOUT_SECONDS,
        keep_alive: int = KEEP_ALIVE_SECONDS,
    ) -> None:
        host, port = listener.getsockname()[:2]
        self._load = load
        self._port = port
        self._listener = listener
        self._kill_timeout = kill_timeout
        super().__init__(
            "bg-ingest",
            address=host,
            port=port,
            interface=Interfaces.ASGI,
            loop=Loops.asyncio,
            websockets=False,
            http=HTTPModes.http1,  # detecting the version has no timeout: a silent connection would stay open
            backlog=BACKLOG,
            backpressure=max_connections(),
            http1_settings=HTTP1Settings(header_read_timeout=1_000 * keep_alive, max_buffer_size=MAX_HEAD_BYTES),
            log_level=LogLevels.warning,
            workers_kill_timeout=kill_timeout,
            reload=reload,
            reload_paths=[ROOT],  # a watch on app.py alone is lost as soon as an editor replaces the file
            reload_filter=_python_files() if reload else None,
            reload_ignore_dirs=["tests"],
            reload_ignore_worker_failure=reload,  # the next save may correct the fault
        )

    def serve(self, *_: object, **__: object) -> None:
        load = partial(_load_in_worker, self._load, self._port, afresh=self.reload_on_changes)
        super().serve(target_loader=load, wrap_loader=False)

    def _init_shared_socket(self) -> None:
        """Hand our own listener to the worker, as granian does with its own on systems other than Linux."""
        self._listener.set_inheritable(True)
        self._ssp = None
        self._sso = self._listener
        self._shd = SocketHolder(self._listener.fileno(), False, BACKLOG)  # type: ignore[call-arg,assignment]  # stubs lag

    def startup(self, *args: object) -> None:
        """Receive signals on a thread of their own instead of in a handler.

        A handler could deadlock: it interrupts a wait that may hold the lock that the handler needs. In addition,
        Python removes all handlers shortly before the exit. A second signal would then end the process with the
        signal's exit code. The forked worker unblocks signals once it can act on them.
        """
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        super().startup(*args)  # type: ignore[no-untyped-call]  # granian's
        threading.Thread(target=self._wait_for_signals, name="wait for signals", daemon=True).start()

    def _wait_for_signals(self) -> None:
        while True:
            signal.sigwait(STOP_SIGNALS)
            self.signal_handler_interrupt()  # type: ignore[no-untyped-call]  # granian's

    def _stop_workers(self) -> None:
        """Start the drain at once: granian, at SIGTERM, ends the lifespan only after the last response."""
        workers = list(self.wrks)
        for worker in workers:
            with suppress(ProcessLookupError):  # the worker has ended
                os.kill(worker.inner.pid, DRAIN_SIGNAL)
            worker.terminate()  # type: ignore[no-untyped-call]  # granian's
        _wait_for_exit(workers, self._kill_timeout)
        self.workers_kill_timeout = 0.001  # type: ignore[assignment]  # any short time: a worker that runs now does not end by itself
        super()._stop_workers()  # type: ignore[no-untyped-call]  # granian's
        if self.interrupt_signal:
            # granian exits with 1 unless this list is empty. A signal to the process group may have ended a worker:
            # such a worker has not failed.
            self.interrupt_children = [
                worker.idx for worker in workers if worker.inner.exitcode not in CLEAN_EXIT_CODES
            ]


def _wait_for_exit(workers: Sequence[Any], seconds: float) -> None:
    """Wait until the exit codes are known.

    Both the watching and the stopping thread of granian query the system, which reports an exit only once. The second
    query returns nothing for a short time, which granian would treat as a worker that does not stop.
    """
    deadline = time.monotonic() + seconds
    while any(worker.inner.exitcode is None for worker in workers) and time.monotonic() < deadline:
        time.sleep(0.01)


def load_app(target: str) -> App:
    """Import "module:name". granian's own loader would search the current directory first."""
    module, _, name = target.partition(":")
    app: App = getattr(importlib.import_module(module), name)
    return app


def _python_files() -> type[Any]:
    import watchfiles  # noqa: PLC0415 - a development dependency

    return watchfiles.PythonFilter


def _load_in_worker(load: Callable[[], App], port: int, *, afresh: bool) -> App:
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_DFL)  # until the loop runs, there is nothing to finish
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    _signals.set_loop_signals = _handle_first_signal
    threading.Thread(target=_follow_parent, name="follow parent", daemon=True).start()
    if afresh:  # the forked worker has the parent's modules: the code before the change
        for name in [name for name in sys.modules if name.partition(".")[0] in {"bg_ingest", "workers"}]:
            del sys.modules[name]
    app = load()
    # Every task inherits this context variable. Without it, anyio looks for the current task each time it creates a
    # lock, an event or a scope, which takes 4 % of the CPU time of a webhook.
    sniffio.current_async_library_cvar.set("asyncio")
    return HeadLimits(app, port)


def _handle_first_signal(loop: asyncio.AbstractEventLoop) -> WorkerSignal:
    """Stop at the first signal and ignore further ones.

    granian's own handler would wait forever if two signals arrive before the worker serves. Ctrl-C during the start
    sends two: from the terminal and from the parent process.
    """
    worker_signal, handled = WorkerSignal(), threading.Event()

    def stop() -> None:
        if not handled.is_set():
            handled.set()
            worker_signal.set()

    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, stop)
    return worker_signal


def _follow_parent() -> None:
    """Stop when the parent has been killed: otherwise the worker would keep the port and the data indefinitely."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
