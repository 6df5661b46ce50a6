"""Nothing secret and no glucose value gets out: watched during every test of the suite.

What tests log, at DEBUG and from libraries too, is captured by pytest; so is what they print. After each test that is
searched for the known secrets of the suite, for whatever has the form of a token or key, and for glucose values.
Houses watch more: problem bodies, metrics, and what every exception says that leaves a provider or the table. What real
processes said is searched as they are stopped, and so are the spans of a trace.
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
"""A value for tests that want one which stands for nothing else."""

SECRET_FORMS = {
    "a simulated token": r"(?:code|access|refresh)\.\d+\.\d+\.\d+\.[0-9a-f]{64}",
    "a signing secret": r"whsec_[A-Za-z0-9+/=_-]{32,}",
    "an API key": r"bgi_[a-z0-9]{1,32}_[A-Za-z0-9_-]{43,}",
    "a wrapped key": r"kms:[A-Za-z0-9+/_-]{32,}|CiphertextBlob[\"']\s*:",
    "what AWS KMS unwrapped": r"Plaintext[\"']\s*:",
    "a JWT": r"eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{16,}",
    "an OAuth state or code": r"[?&](?:state|code)=[A-Za-z0-9._~-]{16,}",
    "a glucose value": r"glucose\w*[\"']?\s*[=:]\s*[\"']?\d|\"value\"\s*:\s*\d"
    r"|(?<!\d|\.)(?<!line )(?<!lineno\": )377(?:\.0+)?(?!\.?\d)",
}
_FORMS = {name: re.compile(form) for name, form in SECRET_FORMS.items()}


def find_leaks(text: str) -> set[str]:
    """Return the kinds of things in a text that must not be there."""
    found = {name for name, form in _FORMS.items() if form.search(text)}
    return found | {"a known secret" for each in KNOWN_SECRETS if each in text}


def strip_counts(exposition: str) -> str:
    """Return metrics without the numbers of what is only counted: in time these come to be any number."""
    return re.sub(r"(?m)^(\w+_(?:total|count|bucket|sum|created)(?:{.*})?) \S+$", r"\1", exposition)


def assert_clean(text: str, where: str) -> None:
    found = find_leaks(text)
    assert not found, f"{where} shows {', '.join(sorted(found))}"


async def check_answer(answer: httpx.Response) -> None:
    """Look at problem bodies and error pages; a hook of the houses' clients."""
    if answer.status_code >= 400:
        await answer.aread()
        assert_clean(answer.text, f"the answer {answer.status_code}")


class WatchedCalls(CallWrapper):
    """In front of a port: looks at the text and ``repr`` of every exception that leaves it, and of all behind it."""

    async def _around(self, name: str, call: Callable[[], Awaitable[Any]]) -> Any:
        try:
            return await call()
        except Exception as error:
            for each in exception_chain(error):
                assert_clean(f"{each}\n{each!r}\n{each.args!r}", f"{type(each).__name__} of {name}")
            raise


def exception_chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception and all that led to it, as tracebacks show them."""
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


@pytest.fixture(scope="session", autouse=True)
def _quiet() -> None:
    """Show of libraries what the service shows of them, from the first fixture on."""
    for name in QUIET_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)


@pytest.fixture(autouse=True)
def _log_everything() -> Iterator[None]:
    """Log as the service does at LOG_LEVEL=DEBUG, to wherever standard output goes just then."""
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
    """Fail a test that passed, if anything it logged or printed shows what it must not."""
    report = yield
    if report.when == "call" and report.passed:
        for name, content in report.sections:
            found = find_leaks(content)
            if found:
                report.outcome = "failed"
                report.longrepr = f"{name} shows {', '.join(sorted(found))}:\n{content[:4000]}"
    return report
