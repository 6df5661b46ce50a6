"""Liveness, readiness, metrics and the status of the replica over HTTP."""

from datetime import UTC, datetime

from bg_ingest.domain.replica_status import (
    ActorState,
    BudgetState,
    ConnectionCounts,
    OwnerState,
    RelayCounts,
    ReplicaStatus,
    ShardCounts,
    UpcomingPoll,
)
from tests.harness.api import ApiHarness

REPORT = ReplicaStatus(
    owner="a-1-ff",
    state="running",
    unready=(),
    degraded=("broker",),
    shards=ShardCounts(owned=3, loading=1),
    owners=(OwnerState("a-1-ff", 3, leaving=False),),
    connections=ConnectionCounts(7, 2, (UpcomingPoll(datetime(2026, 3, 2, 12, 0, 1, tzinfo=UTC), "ada/acme"),)),
    budgets=(
        BudgetState(
            provider="acme", region="us", slowdown=1.25, wanted_per_second=20.5, calls=12, waiting=1, paused=False
        ),
    ),
    relay=RelayCounts(backlog_shards=4, failures=5),
    actors=(ActorState("relay", running=True, crashes=6),),
)


async def test_readiness_names_the_reasons(api: ApiHarness) -> None:
    assert (await api.http.get("/health/ready")).json() == {"status": "ready"}
    api.process_health.degraded_answer = ["broker"]
    assert (await api.http.get("/health/ready")).json() == {"status": "ready", "degraded": ["broker"]}
    api.process_health.unready_answer = ["draining"]
    answer = await api.http.get("/health/ready")
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.json()["type"], answer.json()["reasons"]) == ("not-ready", ["draining"])


async def test_being_alive_depends_on_nothing(api: ApiHarness) -> None:
    api.process_health.unready_answer = ["starting"]
    answer = await api.http.get("/health/live")
    assert answer.status_code == 200
    assert api.table.asked == (0, 0, 0)


async def test_metrics_are_the_text_of_the_registry(api: ApiHarness) -> None:
    answer = await api.http.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"
    assert "\nbg_ingest_build_info{" in answer.text
    assert api.table.asked == (0, 0, 0)


async def test_a_replica_reports_its_work(api: ApiHarness) -> None:
    api.process_health.status_answer = REPORT
    answer = await api.http.get("/api/workers")
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json() == {
        "owner": "a-1-ff",
        "state": "running",
        "unready": [],
        "degraded": ["broker"],
        "shards": {"owned": 3, "loading": 1},
        "owners": [{"id": "a-1-ff", "shards": 3, "leaving": False}],
        "connections": {
            "polled": 7,
            "polls_running": 2,
            "next_polls": [{"due": "2026-03-02T12:00:01Z", "connection": "ada/acme"}],
        },
        "budgets": [
            {
                "provider": "acme",
                "region": "us",
                "slowdown": 1.25,
                "wanted_per_second": 20.5,
                "calls": 12,
                "waiting": 1,
                "paused": False,
            }
        ],
        "relay": {"backlog_shards": 4, "failures": 5},
        "actors": [{"name": "relay", "running": True, "crashes": 6}],
    }
    assert api.table.asked == (0, 0, 0)


async def test_a_replica_that_has_not_started_says_so(api: ApiHarness) -> None:
    answer = await api.http.get("/api/workers")
    assert (answer.status_code, answer.json()["type"], answer.headers["retry-after"]) == (503, "not-ready", "1")
