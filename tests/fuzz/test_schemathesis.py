"""The running service against its own OpenAPI: every request is answered as described, and never by a 5xx."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.cli import RunningCommand

CONFIGURATION = """
# 400 too: OpenAPI cannot say that from lies before to, or that a text is a time with an offset or a date.
[checks.positive_data_acceptance]
expected-statuses = ["2xx", 304, 400, 401, 403, 404, 409, 429]
"""

KEY = "bgi_first_" + "s" * 43
EXAMPLES = 4

COMMAND = [
    *(str(Path(sys.executable).with_name("schemathesis")), "run"),
    *("--checks", "all", "--mode", "all", "--generation-deterministic", "--max-examples", str(EXAMPLES)),
    *("--continue-on-failure", "--max-redirects", "0", "--no-color"),
]


@pytest.fixture
def service(tmp_path: Path) -> Iterator[RunningCommand]:
    """A real process with a key of its own, and the simulated provider."""
    limits = {"REQUESTS_PER_SECOND": "100000", "WEBHOOKS_PER_SECOND": "100000"}
    running = RunningCommand(tmp_path, "run", API_BOOTSTRAP_KEY=KEY, LOG_FORMAT="json", **limits)
    try:
        running.until(lambda: running.answers("/health/ready"))
        yield running
    finally:
        running.stop()


@pytest.mark.parametrize("credential", [KEY, None], ids=["with", "without"])
def test_every_route_answers_as_its_schema_says(
    service: RunningCommand, tmp_path: Path, credential: str | None
) -> None:
    headers = ["--header", f"Authorization: Bearer {credential}"] if credential else []
    # Without a valid one no request is accepted or parsed, and the methods of a path are not revealed: 401
    # instead of 405.
    checks = ["--exclude-checks", "positive_data_acceptance,unsupported_method"]
    asked = ["--phases", "examples,coverage,fuzzing"] if credential else ["--phases", "examples,coverage", *checks]
    (tmp_path / "schemathesis.toml").write_text(CONFIGURATION)
    done = subprocess.run(
        [*COMMAND, *headers, *asked, f"{service.url}/schema"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8_000:]
    assert "Tested: " in done.stdout
    assert "request_failed" not in service.output
