"""Webhooks at a steady rate over a few connections, each new and correctly signed: ``port rate seconds``."""

import socket
import sys
import time
from collections import Counter
from contextlib import suppress
from datetime import timedelta

from bg_ingest.adapters.clock import SystemClock
from bg_ingest.simulator import SimulatorOptions
from bg_ingest.simulator.data import user_id
from tests.harness.webhook_sender import envelope, record, signed, to_bytes

CONNECTIONS = 200
"""Connections, more than the allowed concurrent webhooks."""

INTERVAL_SECONDS = 0.02
"""Seconds between two groups of webhooks, each sent at its due time."""

ANSWER_SECONDS = 10.0
"""Seconds of waiting after the last webhook."""


def webhook(number: int, account: str) -> bytes:
    now = SystemClock().now()
    body = envelope(account, [record(now - timedelta(days=400, minutes=-number % 500_000))])
    headers = signed(body, f"msg_{number}", now)
    lines = [b"POST /api/bg/ada/webhook HTTP/1.1", b"Host: localhost", b"Content-Length: %d" % len(body)]
    lines += [name.encode() + b": " + to_bytes(value) for name, value in headers.items()]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def main(port: int, rate: int, seconds: float) -> None:
    options = SimulatorOptions()
    account = user_id(options.seed, options.client_id, "SandboxUser1")
    answers: Counter[str] = Counter()
    count = min(CONNECTIONS, rate)
    connections = [socket.create_connection(("127.0.0.1", port), 30) for _ in range(count)]
    began, number = time.monotonic(), 0
    while (passed := time.monotonic() - began) < seconds:
        while number < passed * rate:
            connections[number % count].sendall(webhook(number, account))
            number += 1
        answers.update(count_answers(connections))
        time.sleep(INTERVAL_SECONDS)
    while answers.total() < number and time.monotonic() - began < seconds + ANSWER_SECONDS:
        time.sleep(0.1)
        answers.update(count_answers(connections))
    for each in connections:
        each.close()
    sys.stdout.write(f"{number} sent, {dict(sorted(answers.items()))}\n")


def count_answers(connections: list[socket.socket]) -> Counter[str]:
    """Return the statuses received since the last call."""
    found: Counter[str] = Counter()
    for each in connections:
        each.setblocking(False)
        with suppress(BlockingIOError):
            while answers := each.recv(1 << 20):
                found.update(answers[at + 9 : at + 12].decode() for at in response_starts(answers))
        each.setblocking(True)
    return found


def response_starts(answers: bytes) -> list[int]:
    """Return the positions at which answers begin."""
    found, at = [], answers.find(b"HTTP/1.1 ")
    while at >= 0:
        found.append(at)
        at = answers.find(b"HTTP/1.1 ", at + 1)
    return found


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
