"""Search for secrets and glucose values in the output of every test.

Pytest captures logs (at DEBUG, libraries included) and printed text. After each test they are searched for the known
secrets of the suite, for anything in the form of a token or key, and for glucose values. The service harness also
searches problem bodies, metrics, and the text of every exception that leaves a provider or the table. The output of
real processes is searched when they are stopped, and so are the spans of a trace.
"""

import logging
import re
from collections.abc import Awaitable, Callable, Generator, Iterator
from typing import Any

import httpx
import pytest
import structlog
from structlog.tracebacks import ExceptionDictTransformer

from bg_ingest.observability.logs import QUIET_LOGGERS
from bg_ingest.simulator import SimulatorOptions
from tests.fakes.faults import CallWrapper
from tests.harness.webhook_sender import OTHER_SECRET, SECRET

KNOWN_SECRETS = (SECRET, OTHER_SECRET, SimulatorOptions().client_secret)
MARKED_GLUCOSE = 377
"""Value for tests that need a number without any other meaning."""

SECRET_FORMS = {
    "a simulated token": r"(?:code|access|refresh)\.\d+\.\d+\.\d+\.[0-9a-f]{64}",
    "a signing secret": r"whsec_[A-Za-z0-9+/=_-]{32,}",
    "an API key": r"bgi_[a-z0-9]{1,32}_[A-Za-z0-9_-]{43,}",
    "a wrapped key": r"kms:[A-Za-z0-9+/_-]{32,}|CiphertextBlob[\"']\s*:",
    "what AWS KMS unwrapped": r"Plaintext[\"']\s*:",
    "a JWT": r"eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{16,}",
    "an OAuth state or code": r"[?&](?:state|code)=[A-Za-z0-9._~-]{16,}",
    "a glucose value": r"glucose\w*[\"']?\s*[=:]\s*[\"']?\d|\"value\"\s*:\s*\d"
    r"|(?<![0-9a-fA-F.-])(?<!\d,)(?<!line )(?<!lineno\": )377(?:\.0+)?(?!\.?\d|[a-fA-F-])",
}
_FORMS = {name: re.compile(form) for name, form in SECRET_FORMS.items()}


def find_leaks(text: str) -> set[str]:
    """Return the kinds of forbidden content in a text."""
    kinds = {name for name, form in _FORMS.items() if form.search(text)}
    return kinds | {"a known secret" for secret in KNOWN_SECRETS if secret in text}


def strip_counts(exposition: str) -> str:
    """Return metrics without the values of counters, because a counter may reach any number."""
    return re.sub(r"(?m)^(\w+_(?:total|count|bucket|sum|created)(?:{.*})?) \S+$", r"\1", exposition)


def assert_clean(text: str, where: str) -> None:
    leaks = find_leaks(text)
    assert not leaks, f"{where} shows {', '.join(sorted(leaks))}"


async def check_answer(answer: httpx.Response) -> None:
    """Search problem bodies and error pages; a hook of the harness's HTTP clients."""
    if answer.status_code >= 400:
        await answer.aread()
        assert_clean(answer.text, f"the answer {answer.status_code}")


class WatchedCalls(CallWrapper):
    """Wrapper of a port that searches text and ``repr`` of every exception that leaves it, including their causes."""

    async def _around(self, name: str, call: Callable[[], Awaitable[Any]]) -> Any:
        try:
            return await call()
        except Exception as error:
            for link in exception_chain(error):
                assert_clean(f"{link}\n{link!r}\n{link.args!r}", f"{type(link).__name__} of {name}")
            raise


def exception_chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception and its causes, as a traceback shows them."""
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


@pytest.fixture(scope="session", autouse=True)
def _quiet() -> None:
    """Set the libraries' log levels as the service does, before the first fixture."""
    for name in QUIET_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)


@pytest.fixture(autouse=True)
def _log_everything() -> Iterator[None]:
    """Log as the service does at LOG_LEVEL=DEBUG, to the current standard output."""
    tracebacks = structlog.processors.ExceptionRenderer(ExceptionDictTransformer(show_locals=False))
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            tracebacks,
            structlog.processors.JSONRenderer(default=repr),
        ],
        logger_factory=structlog.PrintLoggerFactory(),
    )
    yield
    structlog.reset_defaults()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail a passed test with forbidden content in its logs or output."""
    report = yield
    if report.when == "call" and report.passed:
        for name, content in report.sections:
            leaks = find_leaks(content)
            if leaks:
                report.outcome = "failed"
                report.longrepr = f"{name} shows {', '.join(sorted(leaks))}:\n{content[:4000]}"
    return report
