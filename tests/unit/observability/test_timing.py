import pytest
from prometheus_client import CollectorRegistry, Histogram

from bg_ingest.errors import BrokerUnavailable, IngestError
from bg_ingest.observability.timing import Timer, Timing, outcome_label


@pytest.mark.parametrize(
    ("kind", "label"),
    [
        (BrokerUnavailable, "broker_unavailable"),
        (IngestError, "ingest_error"),
        (ValueError, "crashed"),
        (KeyboardInterrupt, "cancelled"),
    ],
)
def test_errors_that_are_not_ours_share_two_labels(kind: type[BaseException], label: str) -> None:
    assert outcome_label(kind) == label


def test_an_operation_counts_once_under_its_outcome() -> None:
    registry = CollectorRegistry()
    timer = Timer(Histogram("calls", "", ["call", "outcome"], registry=registry))
    with Timing(timer, "get"):
        pass
    for _ in range(2):
        with pytest.raises(BrokerUnavailable), Timing(timer, "get"):
            raise BrokerUnavailable
    counts = {
        outcome: registry.get_sample_value("calls_count", {"call": "get", "outcome": outcome})
        for outcome in ("ok", "broker_unavailable")
    }
    assert counts == {"ok": 1, "broker_unavailable": 2}


def test_an_operation_that_never_exits_is_not_counted() -> None:
    registry = CollectorRegistry()
    Timing(Timer(Histogram("calls", "", ["call", "outcome"], registry=registry)), "get").__enter__()
    assert registry.get_sample_value("calls_count", {"call": "get", "outcome": "ok"}) is None
