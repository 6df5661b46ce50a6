"""Findings of ``bg-ingest doctor``: a state, its verdict, the advice. A check returns findings and raises nothing."""

from enum import StrEnum

import msgspec


class Verdict(StrEnum):
    """Severity of a finding."""

    OK = "ok"
    WARNING = "warning"
    """The service runs, but the finding deserves attention."""
    FAILED = "failed"
    """The service does not run in this state."""


class Finding(msgspec.Struct, frozen=True):
    """Result of one check."""

    check: str
    verdict: Verdict
    found: str
    advice: str = ""
    """Action for the operator; empty for OK."""


def ok(check: str, found: str) -> Finding:
    return Finding(check, Verdict.OK, found)


def warning(check: str, found: str, advice: str) -> Finding:
    return Finding(check, Verdict.WARNING, found, advice)


def failed(check: str, found: str, advice: str) -> Finding:
    return Finding(check, Verdict.FAILED, found, advice)
