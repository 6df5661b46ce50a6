import json
import logging
import re
from collections.abc import Iterator
from errno import EIO, ENOSPC

import pytest
import structlog

from bg_ingest.domain.ids import shard_of
from bg_ingest.domain.polling import PollState
from bg_ingest.errors import ProviderMisbehaved
from bg_ingest.observability.logs import QUIET_LOGGERS, LogContext, configure_logging
from bg_ingest.simulator.faults import Failed
from tests.fakes.failing_output import FailingOutput
from tests.harness.connected_user import ADA, open_connected_user
from tests.harness.hygiene import MARKED_GLUCOSE

SECRET = "tok-secret"


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    handlers, level = logging.getLogger().handlers[:], logging.getLogger().level
    levels = {name: logging.getLogger(name).level for name in QUIET_LOGGERS}
    yield
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)
    structlog.reset_defaults()
    logging.basicConfig(level=level, handlers=handlers, force=True)


def crash(token: str) -> None:
    """Fail with a secret in a local variable."""
    glucose = 13_700_000 + len(token)
    raise ValueError(f"it broke after {glucose - glucose} readings")


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_traceback_shows_no_local_variable(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("DEBUG", form)  # type: ignore[arg-type]  # parametrised
    for log in (structlog.get_logger(), logging.getLogger("a.library")):
        try:
            crash(SECRET)
        except ValueError:
            log.exception("a poll crashed")
    written = capsys.readouterr().err
    assert written.count("in crash") + written.count('"name": "crash"') == 2
    assert written.count("ValueError") >= 2
    assert "it broke after 0 readings" not in written
    assert SECRET not in written
    assert str(13_700_000 + len(SECRET)) not in written


READ = "no number: "

TIME = re.compile(r"\d\d:\d\d:\d\d\.\d+Z")
"""Random tokens that may contain any digits."""


def misread(depth: int = 0) -> None:
    """Fail as code does that quotes the record it cannot read; a group, a cause, a context and a note have one too."""
    quoting = f"{READ}{MARKED_GLUCOSE}"
    try:
        try:
            int(quoting)
        except ValueError as error:
            error.add_note(quoting)
            raise KeyError(quoting) from error
    except KeyError:
        if depth == 0:
            raise ExceptionGroup(quoting, [TypeError(quoting), ProviderMisbehaved("no JSON")])  # noqa: B904 - a context
        raise


@pytest.mark.parametrize("form", ["json", "console"])
@pytest.mark.parametrize("depth", [0, 1])
def test_exceptions_are_logged_by_types_and_frames_and_only_our_own_with_their_texts(
    form: str, depth: int, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging("DEBUG", form)  # type: ignore[arg-type]  # parametrised
    for log in (structlog.get_logger(), logging.getLogger("a.library")):
        try:
            misread(depth)
        except Exception as error:
            log.exception("a poll crashed")
            log.critical("a poll crashed", exc_info=error)
    written = capsys.readouterr().err
    assert READ not in written
    assert f"{MARKED_GLUCOSE}" not in TIME.sub("", written)
    assert "ValueError" in written
    assert "KeyError" in written
    assert "misread" in written
    assert ("no JSON" in written) is (depth == 0)


def test_production_lines_are_json_with_the_facts_as_keys(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("INFO", "json")
    structlog.get_logger().warning("cannot tell", action="relay_stopped", shard=7)
    structlog.get_logger().debug("not shown")
    logging.getLogger("httpx").info("GET https://somewhere: not shown")
    line = json.loads(capsys.readouterr().err)
    assert {"event": "cannot tell", "action": "relay_stopped", "shard": 7, "level": "warning"}.items() <= line.items()
    assert line["timestamp"].endswith("Z")


async def test_log_lines_of_a_poll_name_connection_shard_and_epoch(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("INFO", "json")
    async with open_connected_user() as ada:
        ada.service.simulator.add_fault(Failed(endpoint="egvs", count=1))
        capsys.readouterr()
        await ada.services.poller.poll(ADA, 7, PollState(), requested=True)
        lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
        (failed,) = [line for line in lines if line["action"] == "poll_failed"]
        assert {"connection": "ada/dexcom", "shard": shard_of(ADA.user), "epoch": 7}.items() <= failed.items()
        structlog.get_logger().warning("later", action="later")
        assert "connection" not in json.loads(capsys.readouterr().err)


def fail_with_a_line() -> None:
    structlog.get_logger().info("inner")
    raise ProviderMisbehaved("no JSON")


def test_keys_of_a_poll_end_with_it_also_after_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("INFO", "json")
    with LogContext().poll(ADA, 7):
        with pytest.raises(ProviderMisbehaved), LogContext().poll(ADA, 8):
            fail_with_a_line()
        structlog.get_logger().info("outer")
    structlog.get_logger().info("after")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line.get("epoch") for line in lines] == [8, 7, None]


class Unprintable:
    """Value that no form can show."""

    def __repr__(self) -> str:
        raise RecursionError

    __str__ = __repr__


@pytest.mark.parametrize("form", ["json", "console"])
def test_f1_a_line_that_cannot_be_formatted_is_dropped_and_counted(
    form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    dropped: list[bool] = []
    configure_logging("DEBUG", form, on_dropped=lambda: dropped.append(True))  # type: ignore[arg-type]  # parametrised
    structlog.get_logger().error("a poll crashed", value=Unprintable())
    logging.getLogger("a.library").error("%s", Unprintable())
    logging.getLogger("a.library").error("%d", "no number")
    structlog.get_logger().error("next")
    assert len(dropped) == 3
    written = capsys.readouterr().err
    assert "next" in written
    assert "Traceback" not in written


@pytest.mark.parametrize("error", [BrokenPipeError(), OSError(ENOSPC, "disk full"), OSError(EIO, "terminal gone")])
@pytest.mark.parametrize("form", ["json", "console"])
def test_f1_a_line_that_cannot_be_written_is_dropped_and_writing_is_tried_again(
    form: str, error: OSError, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, dropped = FailingOutput(error), list[bool]()
    monkeypatch.setattr("sys.stderr", output)
    configure_logging("DEBUG", form, on_dropped=lambda: dropped.append(True))  # type: ignore[arg-type]  # parametrised
    for log in (structlog.get_logger(), logging.getLogger("a.library")):
        log.error("lost")
        try:
            crash(SECRET)
        except ValueError:
            log.exception("lost")
    assert len(dropped) == 4
    output.faults.clear()
    structlog.get_logger().error("written")
    logging.getLogger("a.library").error("written")
    assert output.getvalue().count("written") == 2
    assert "lost" not in output.getvalue()
    assert len(dropped) == 4
