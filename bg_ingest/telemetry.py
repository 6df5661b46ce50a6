"""Logs: one line per edge, for people in development, as JSON elsewhere. Never a token, never a glucose value."""

import logging
import sys
from collections.abc import Sequence
from typing import Literal

import structlog
from structlog.tracebacks import ExceptionDictTransformer
from structlog.typing import Processor

QUIET = ("httpx", "httpcore", "asyncio", "botocore", "aiobotocore", "aiormq", "urllib3")
"""Libraries that log every call: only what they warn of is shown."""


def configure_logging(level: str, form: Literal["json", "console"], facts: Sequence[Processor] = ()) -> None:
    """Send our log lines and those of libraries to stderr in one form; calling it again replaces what was.

    ``facts`` add to each line what they know of where it was written.
    """
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        *facts,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    # Local variables hold tokens and readings: no traceback shows them.
    if form == "json":
        tracebacks = structlog.processors.ExceptionRenderer(ExceptionDictTransformer(show_locals=False))
        last: list[Processor] = [tracebacks, structlog.processors.JSONRenderer()]
    else:
        plain = structlog.dev.plain_traceback
        last = [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)]
    structlog.configure(
        processors=[*shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for name in QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLevelNamesMapping()[level]))
