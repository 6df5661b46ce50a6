"""Log fault injection: the service's own configuration of the log, over an output that always fails."""

import errno
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
import structlog

from bg_ingest.api.log_context import add_request
from bg_ingest.observability.logs import configure_logging
from tests.fakes.failing_output import FailingOutput

LOG_FAULTS = [OSError(number, os.strerror(number)) for number in (errno.EPIPE, errno.ENOSPC, errno.EIO)]
"""Reasons for which a log cannot be written: pipe closed, disk full, terminal gone."""


@contextmanager
def failing_log(faults: Sequence[OSError] = ()) -> Iterator[list[bool]]:
    """Log at DEBUG to an output whose writes fail with these errors in turn, or succeed without any.

    The list receives an entry for each dropped line.
    """
    before, root, dropped = structlog.get_config(), logging.getLogger(), list[bool]()
    handlers, level = root.handlers[:], root.level
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stderr", FailingOutput(*faults))
        configure_logging("DEBUG", "json", [add_request], lambda: dropped.append(True))
        try:
            yield dropped
        finally:
            structlog.configure(**before)
            logging.basicConfig(level=level, handlers=handlers, force=True)
