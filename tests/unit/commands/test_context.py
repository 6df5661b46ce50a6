"""Settings and store of a command."""

import re
import subprocess
import sys
from pathlib import Path

from tests.harness.cli import Serve, environment, run_bg_ingest


def test_wrong_settings_are_listed_and_end_with_two(tmp_path: Path) -> None:
    refused = run_bg_ingest(tmp_path, "run", ENVIRONMENT="production")
    assert refused.returncode == 2
    assert "RABBITMQ_URL" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_command_that_needs_the_store_has_it_or_says_who_has(serve: Serve, tmp_path: Path) -> None:
    code = """
from bg_ingest.commands.context import run_with_services

async def count(settings, services):
    return [await services.store.readings.head("ada"), services.connector is not None]

print(run_with_services(count))
"""

    def ask() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False
        )

    alone = ask()
    assert (alone.returncode, alone.stdout) == (0, "[None, True]\n"), alone.stderr
    running = serve("run")
    running.until(lambda: running.answers("/health/ready"))
    beside = ask()
    assert beside.returncode == 1
    assert re.fullmatch(r"\S+/bg-ingest\.sqlite is in use: stop the running service .*\.\n", beside.stderr)
