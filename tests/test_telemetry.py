import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from bg_ingest.telemetry import QUIET, configure_logging

SECRET = "tok-secret"


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    handlers, level = logging.getLogger().handlers[:], logging.getLogger().level
    levels = {name: logging.getLogger(name).level for name in QUIET}
    yield
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)
    structlog.reset_defaults()
    logging.basicConfig(level=level, handlers=handlers, force=True)


def crash(token: str) -> None:
    """Fail with a secret in a local variable."""
    glucose = 137 + len(token)
    raise ValueError(f"it broke after {glucose - glucose} readings")


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_traceback_shows_no_local_variable(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("DEBUG", form)  # type: ignore[arg-type]  # parametrised
    for log in (structlog.get_logger(), logging.getLogger("a.library")):
        try:
            crash(SECRET)
        except ValueError:
            log.exception("a turn crashed")
    written = capsys.readouterr().err
    assert written.count("it broke after 0 readings") == 2
    assert SECRET not in written
    assert "147" not in written


def test_production_lines_are_json_with_the_facts_as_keys(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("INFO", "json")
    structlog.get_logger().warning("cannot tell", action="relay_stopped", shard=7)
    structlog.get_logger().debug("not shown")
    logging.getLogger("httpx").info("GET https://somewhere: not shown")
    line = json.loads(capsys.readouterr().err)
    assert {"event": "cannot tell", "action": "relay_stopped", "shard": 7, "level": "warning"}.items() <= line.items()
    assert line["timestamp"].endswith("Z")
