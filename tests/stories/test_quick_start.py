"""The README's quick start, ``make demo``, in hostile environments: it works, or ends with one sentence."""

import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.cli import ForkedCommand, RunningCommand
from tests.harness.web import web
from tests.integration.processes import free_port

RUNS = "BG Ingest runs."
PROXY, SOCKS = "http://127.0.0.1:1", "socks://127.0.0.1:1080"

HARMLESS: dict[str, dict[str, str]] = {
    "proxies of a desktop, conda": {
        **dict.fromkeys(("ALL_PROXY", "all_proxy", "HTTPS_PROXY"), SOCKS),
        "no_proxy": "10.0.0.0/8",
        "HOST": "x86_64-conda-linux-gnu",
    },
    "IPv6 only": {"HOST": "::1"},
    "a full disk of the log": {},
    "a proxy of a company, an unknown AWS profile, no terminal": {
        "HTTP_PROXY": PROXY,
        "HTTPS_PROXY": "127.0.0.1:1",
        "AWS_PROFILE": "nobody",
        "AWS_REGION": "nowhere",
        "AWS_MAX_ATTEMPTS": "many",
        "TERM": "dumb",
        "COLUMNS": "none",
        "NO_COLOR": "1",
    },
}
"""Environments in which the demo works."""

REFUSED: dict[str, tuple[dict[str, str], str]] = {
    "DATA_DIR is a file": ({"DATA_DIR": "malformed"}, "malformed is not a folder: check DATA_DIR"),
    "DATA_DIR is not writable": ({"DATA_DIR": "/proc/data"}, "nothing can be written to /proc ("),
    "no certificates": ({"SSL_CERT_FILE": "nowhere.pem"}, "SSL_CERT_FILE should name a readable file"),
    "the port is taken": ({"PORT": "taken"}, "stop the program that uses it, or choose another HOST or PORT"),
    "a broker with a bare @": ({"RABBITMQ_URL": "amqp://a:p@ss@localhost"}, "@ in the user, password or virtual host"),
}
"""Environments that end it with exit code 2, and a part of the sentence."""


@pytest.fixture
def malformed(tmp_path: Path) -> None:
    (tmp_path / "malformed").write_text("[default\nregion")


@pytest.fixture
def taken() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as other:
        yield str(other.getsockname()[1])


@pytest.mark.usefixtures("malformed")
@pytest.mark.parametrize("title", HARMLESS)
def test_the_demo_works_in_a_hostile_environment(tmp_path: Path, title: str) -> None:
    port = free_port()
    errors = "/dev/full" if title == "a full disk of the log" else ""
    demo = ForkedCommand(tmp_path, "demo", "--port", str(port), errors=errors, BACKFILL_DAYS="1", **HARMLESS[title])
    host = "[::1]" if title == "IPv6 only" else "127.0.0.1"
    try:
        demo.wait(lambda: RUNS in demo.output)
        assert demo.code is None, demo.output
        assert web.get(f"http://{host}:{port}/api/bg/ada/latest").is_success
    finally:
        code = demo.stop()
    assert (code, "Traceback" in demo.output) == (0, False), demo.output
    if "conda" in title:
        assert "HOST is no address or name of this machine" in demo.output
        assert "all_proxy is not the address of an HTTP proxy: it is not used." in demo.output


@pytest.mark.usefixtures("malformed")
def test_f25_the_demo_works_without_a_locale_zones_and_a_home(tmp_path: Path) -> None:
    """In a process of its own, because the interpreter reads these variables at its start."""
    interpreter = {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONTZPATH": "/nowhere", "HOME": "/proc/nowhere"}
    demo = RunningCommand(tmp_path, "demo", BACKFILL_DAYS="1", AWS_CONFIG_FILE="malformed", **interpreter)
    try:
        demo.until(lambda: RUNS in demo.output)
        assert web.get(f"{demo.url}/api/bg/ada/latest").is_success
        assert demo.stop() == 0
    finally:
        demo.end()
    assert "Traceback" not in demo.output


@pytest.mark.usefixtures("malformed")
@pytest.mark.parametrize("title", REFUSED)
def test_the_demo_ends_with_one_sentence(tmp_path: Path, taken: str, title: str) -> None:
    variables, sentence = REFUSED[title]
    variables = {name: taken if value == "taken" else value for name, value in variables.items()}
    demo = ForkedCommand(tmp_path, "demo", **variables)
    demo.wait(lambda: False)
    assert demo.stop() == 2
    (line,) = [line for line in demo.output.splitlines() if not line.startswith("Wrong settings")]
    assert re.search(re.escape(sentence), line), demo.output
    assert os.linesep not in line
