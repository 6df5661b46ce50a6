"""Logs: one line per transition, readable in development, JSON elsewhere. Never a token or a glucose value."""

import logging
import sys
from collections.abc import Callable, Sequence
from typing import Any, Literal, Self, TextIO, TypeVar, cast

import structlog
from structlog.tracebacks import ExceptionDictTransformer
from structlog.typing import EventDict, Processor, WrappedLogger

from bg_ingest.domain.ids import ConnectionId, shard_of
from bg_ingest.domain.polling import PollReport
from bg_ingest.errors import IngestError
from bg_ingest.observability.lossy_stream import LossyStream
from bg_ingest.ports import Observation, Observer

Result = TypeVar("Result")

QUIET_LOGGERS = ("httpx", "httpcore", "asyncio", "botocore", "aiobotocore", "aiormq", "urllib3")
"""Libraries that log every call: only their warnings are shown."""


def configure_logging(
    level: str,
    form: Literal["json", "console"],
    facts: Sequence[Processor] = (),
    on_dropped: Callable[[], object] = lambda: None,
) -> None:
    """Write our log lines and those of libraries to stderr in one form. Another call replaces the configuration.

    The processors `facts` add keys to each line. No call of a logger raises: a line that cannot be formatted or written
    is dropped, and `on_dropped` is called instead.
    """
    stream = LossyStream(sys.stderr, on_dropped)
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        *facts,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        strip_exception_texts,
    ]
    # Local variables hold tokens and readings: no traceback shows them.
    if form == "json":
        tracebacks = structlog.processors.ExceptionRenderer(ExceptionDictTransformer(show_locals=False))
        last: list[Processor] = [tracebacks, structlog.processors.JSONRenderer()]
    else:
        plain = structlog.dev.plain_traceback
        last = [structlog.dev.ConsoleRenderer(colors=stream.isatty(), exception_formatter=plain)]
    structlog.configure(
        processors=[*shared, *last],
        wrapper_class=_build_logger(logging.getLevelNamesMapping()[level], on_dropped),
        logger_factory=structlog.WriteLoggerFactory(cast("TextIO", stream)),
    )
    handler = LineHandler(stream, on_dropped)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last]
        )
    )
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for name in QUIET_LOGGERS:
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLevelNamesMapping()[level]))


def _build_logger(level: int, on_dropped: Callable[[], object]) -> type[Any]:
    filtering: type[Any] = structlog.make_filtering_bound_logger(level)

    class DroppingLogger(filtering):  # type: ignore[misc]  # structlog builds the class by its level
        """Logger whose calls never raise, because most of them are made while an error is being handled."""

        def _proxy_to_logger(self, method_name: str, event: str | None = None, **event_kw: object) -> None:
            try:
                super()._proxy_to_logger(method_name, event, **event_kw)
            except Exception:  # noqa: BLE001 - a processor may fail in any way
                on_dropped()

    return DroppingLogger


class LineHandler(logging.Handler):
    """Handler for the log lines of libraries. It never raises.

    Unlike other handlers, it prints no traceback of its own errors.
    """

    def __init__(self, stream: LossyStream, on_dropped: Callable[[], object]) -> None:
        super().__init__()
        self._stream = stream
        self._on_dropped = on_dropped

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception:  # noqa: BLE001 - the arguments of a line may fail in any way
            self._on_dropped()
        else:
            self._stream.write(f"{line}\n")


def strip_exception_texts(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Remove the texts of a line's exception and of its causes, because texts may quote a token or a reading.

    Types and frames stay. The texts of our own errors also stay, because they are instructions.
    """
    error = event.get("exc_info")
    if error and not isinstance(error, BaseException):
        error = error[1] if isinstance(error, tuple) else sys.exc_info()[1]
    if error:
        event["exc_info"] = _strip_texts(error, {})
    return event


def _strip_texts(error: BaseException, known: dict[int, BaseException]) -> BaseException:
    """Return a substitute with the same type name and frames. It has no text, unless the error is an IngestError."""
    if id(error) in known:  # contexts may form a cycle
        return known[id(error)]
    if isinstance(error, BaseExceptionGroup):
        stripped: BaseException = BaseExceptionGroup("", [_strip_texts(member, known) for member in error.exceptions])
    else:
        names = {"__module__": type(error).__module__, "__qualname__": type(error).__qualname__}
        stripped = type(type(error).__name__, (Exception,), names)(
            *([str(error)] if isinstance(error, IngestError) else [])
        )
    known[id(error)] = stripped
    stripped.__cause__ = _strip_texts(error.__cause__, known) if error.__cause__ else None
    stripped.__context__ = _strip_texts(error.__context__, known) if error.__context__ else None
    stripped.__suppress_context__ = error.__suppress_context__
    return stripped.with_traceback(error.__traceback__)


class LogContext(Observer):
    """Adds connection, shard and epoch to every line logged within a poll."""

    def poll(self, connection: ConnectionId, epoch: int) -> Observation[PollReport]:
        return LogBinding(connection=str(connection), shard=shard_of(connection.user), epoch=epoch)


class LogBinding(Observation[Result]):
    """Binds keys to all lines logged in the body."""

    __slots__ = ("_keys", "_tokens")

    def __init__(self, **keys: str | int) -> None:
        super().__init__()
        self._keys = keys

    def __enter__(self) -> Self:
        self._tokens = structlog.contextvars.bind_contextvars(**self._keys)
        return self

    def __exit__(self, *_: object) -> None:
        structlog.contextvars.reset_contextvars(**self._tokens)
