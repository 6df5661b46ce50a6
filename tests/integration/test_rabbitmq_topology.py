"""Exchanges, queues and permissions of an operator: used as they are, or a named refusal of service and doctor."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import aiormq
import anyio
import pytest
from aiormq.abc import AbstractChannel
from anyio import to_thread

from bg_ingest.adapters.rabbitmq import publisher as publishing
from bg_ingest.adapters.rabbitmq import topology
from bg_ingest.doctor import Finding, Verdict
from bg_ingest.doctor.remote import check_broker
from bg_ingest.domain.cloud_events import EXCHANGE
from bg_ingest.domain.replica_status import BrokerState
from bg_ingest.errors import BrokerUnavailable, EventRefused
from bg_ingest.settings import Settings
from tests.contracts.test_publisher import change
from tests.integration.rabbitmq_node import Node
from tests.integration.test_rabbitmq import PAUSED, QUEUE, connect, publish_outcome, until


class Broker(NamedTuple):
    """A virtual host of a node as its operator has it."""

    node: Node
    url: str
    operator: AbstractChannel

    @property
    def vhost(self) -> str:
        return vhost_of(self.url)

    async def add_exchange(self, kind: str = "topic", **options: Any) -> None:
        await self.operator.exchange_declare(EXCHANGE, exchange_type=kind, **{"durable": True, **options})

    async def add_queue(self, arguments: dict[str, Any] | None = None, *, bound: bool = True) -> None:
        await self.operator.queue_declare(QUEUE, durable=True, arguments=arguments)
        if bound:
            await self.operator.queue_bind(QUEUE, EXCHANGE, routing_key="#")

    async def count_events(self) -> int | None:
        async with aiormq.connect(self.url) as connection:
            channel = await connection.channel()
            return (await channel.queue_declare(QUEUE, passive=True)).message_count

    def user(self, configure: str = "^$", write: str = ".*", read: str = ".*") -> str:
        return self.node.add_user(self.vhost, configure=configure, write=write, read=read)


def vhost_of(url: str) -> str:
    return unquote(urlsplit(url).path[1:])


@pytest.fixture
async def broker(rabbitmq_node: Node, rabbitmq_vhost: str) -> AsyncIterator[Broker]:
    async with aiormq.connect(rabbitmq_vhost) as connection:
        yield Broker(rabbitmq_node, rabbitmq_vhost, await connection.channel())


async def diagnose(url: str, queue: str | None = QUEUE) -> list[Finding]:
    options: dict[str, Any] = {"rabbitmq_url": url, "rabbitmq_queue": queue}
    return await check_broker(Settings(**options))


@pytest.mark.parametrize(
    "arguments",
    [
        {"x-queue-type": "quorum"},
        {"x-queue-type": "stream"},
        {"x-message-ttl": 3_600_000},
        {"x-dead-letter-exchange": "amq.topic", "x-max-length": 1000, "x-overflow": "reject-publish"},
        {"x-queue-mode": "lazy", "x-single-active-consumer": True},
    ],
)
async def test_f3_a_queue_of_the_operator_is_used_as_it_is(broker: Broker, arguments: dict[str, Any]) -> None:
    await broker.add_queue(arguments, bound=False)
    async with connect(broker.url, queue=QUEUE) as publisher:
        assert publisher.state is BrokerState.CONNECTED
        assert await publisher.publish(change(1))
    assert {finding.verdict for finding in await diagnose(broker.url)} <= {Verdict.OK, Verdict.WARNING}


@pytest.mark.parametrize(
    "options",
    [
        {"arguments": {"alternate-exchange": "amq.fanout"}},
        {"durable": False},
        {"auto_delete": True},
    ],
)
async def test_f3_an_exchange_of_the_operator_is_used_as_it_is(broker: Broker, options: dict[str, Any]) -> None:
    await broker.add_exchange(**options)
    await broker.add_queue()
    assert [finding.verdict for finding in await diagnose(broker.url)] == [Verdict.OK, Verdict.OK]
    async with connect(broker.url, queue=QUEUE) as publisher:
        assert await publisher.publish(change(1))
        assert await broker.count_events() == 1, "the doctor leaves no message"


@pytest.mark.parametrize(("write", "read"), [(".*", ".*"), ("^bg[.]events$", "^$")])
async def test_f3_without_the_right_to_configure_existing_objects_are_used(
    broker: Broker, write: str, read: str
) -> None:
    await broker.add_exchange()
    await broker.add_queue({"x-queue-type": "quorum"})
    url = broker.user(write=write, read=read)
    async with connect(url, queue=QUEUE) as publisher:
        assert await publisher.publish(change(1))
    findings = await diagnose(url)
    assert Verdict.FAILED not in {finding.verdict for finding in findings}
    may_bind = read == ".*"
    assert any("bindings" in finding.found for finding in findings) is not may_bind, (
        "the binding is reported as unknown"
    )


async def wrong_type(broker: Broker) -> str:
    await broker.add_exchange("direct")
    return broker.url


async def no_exchange_and_no_right_to_configure(broker: Broker) -> str:
    return broker.user()


async def internal_exchange(broker: Broker) -> str:
    await broker.add_exchange(internal=True)
    return broker.url


async def no_queue_and_no_right_to_configure(broker: Broker) -> str:
    await broker.add_exchange()
    return broker.user()


async def queue_declared_and_no_right_to_bind(broker: Broker) -> str:
    await broker.add_exchange()
    return broker.user(configure=".*", write="^bg[.]events$", read="^$")


async def exclusive_queue(broker: Broker) -> str:
    await broker.operator.queue_declare(QUEUE, exclusive=True)
    return broker.url


async def no_right_to_write(broker: Broker) -> str:
    await broker.add_exchange()
    await broker.add_queue()
    return broker.user(write="^$")


async def no_right_to_one_topic(broker: Broker) -> str:
    await broker.add_exchange()
    await broker.add_queue()
    url = broker.user()
    broker.node.permit_topics(broker.vhost, urlsplit(url).username or "", "^bg[.]readings[.]")
    return url


async def wrong_password(broker: Broker) -> str:
    return broker.url.replace("guest:guest@", "guest:wrong-one@")


async def no_virtual_host(broker: Broker) -> str:
    return broker.url.replace("test%2F", "other%2F")


async def no_right_to_the_virtual_host(broker: Broker) -> str:
    url = broker.user()
    user = urlsplit(url).username
    broker.node.api.delete(f"/permissions/{broker.vhost.replace('/', '%2F')}/{user}").raise_for_status()
    return url


Break = Callable[[Broker], Awaitable[str]]

REFUSALS: list[tuple[Break, str, str]] = [
    (wrong_type, "exchange", "direct"),
    (no_exchange_and_no_right_to_configure, "exchange", "bg.events"),
    (no_queue_and_no_right_to_configure, "queue", QUEUE),
    (queue_declared_and_no_right_to_bind, "queue", QUEUE),
    (exclusive_queue, "queue", "exclusive"),
    (internal_exchange, "publish", "internal"),
    (no_right_to_write, "publish", "bg.events"),
    (no_right_to_one_topic, "publish", "topic"),
    (wrong_password, "login", "ACCESS_REFUSED"),
    (no_virtual_host, "login", "virtual host"),
    (no_right_to_the_virtual_host, "login", "virtual host"),
]


@pytest.mark.parametrize(("break_it", "part", "says"), REFUSALS, ids=lambda value: getattr(value, "__name__", ""))
async def test_f3_a_lasting_refusal_has_the_same_name_for_service_and_doctor(
    broker: Broker, break_it: Break, part: str, says: str
) -> None:
    url = await break_it(broker)
    async with connect(url, queue=QUEUE) as publisher:
        assert publisher.state is BrokerState(f"{part}_refused")
        with pytest.raises(BrokerUnavailable):
            await publisher.publish(change(1))
        findings = [finding for _ in range(10) for finding in await diagnose(url)]  # a refusal meets any step
        finding = findings[0]
        assert findings == [finding] * 10
        assert publisher.state is BrokerState(f"{part}_refused")
    assert finding.verdict is Verdict.FAILED
    assert says in finding.found
    assert finding.advice
    assert "wrong-one" not in str(finding)


async def test_f3_once_the_operator_permits_it_events_are_published(broker: Broker) -> None:
    url = broker.user()
    async with connect(url, queue=QUEUE) as publisher:
        assert publisher.state is BrokerState.EXCHANGE_REFUSED
        name = urlsplit(url).username or ""
        broker.node.permit(broker.vhost, name, configure=".*", write=".*", read=".*")
        await until(lambda: publisher.state is BrokerState.CONNECTED)
        assert await publisher.publish(change(1))


async def test_f3_a_queue_that_is_deleted_while_the_service_runs_is_declared_again(broker: Broker) -> None:
    async with connect(broker.url, queue=QUEUE) as publisher:
        await broker.operator.queue_delete(QUEUE)
        with pytest.raises(EventRefused):
            await publisher.publish(change(1))
        with anyio.fail_after(10):
            while await publish_outcome(publisher, change(2, what=PAUSED)) is not True:  # noqa: ASYNC110 - the broker has no event
                await anyio.sleep(0.05)
        assert await broker.count_events() == 1


async def test_f3_a_broker_without_memory_is_named_and_the_service_returns(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, name in ((topology, "CONNECT_TIMEOUT"), (topology, "CLOSE_TIMEOUT"), (publishing, "CONFIRM_TIMEOUT")):
        monkeypatch.setattr(module, name, 1.0)
    async with connect(broker.url, queue=QUEUE) as publisher:
        await to_thread.run_sync(broker.node.limit_memory, "1024")
        try:
            (finding,) = await diagnose(broker.url)
            assert (finding.verdict, "memory or disk" in finding.found) == (Verdict.FAILED, True)
            assert await publish_outcome(publisher, change(1)) is BrokerUnavailable
            await anyio.sleep(2)  # for connections while it is blocked
            assert publisher.state is BrokerState.UNREACHABLE
        finally:
            await to_thread.run_sync(broker.node.limit_memory, "1GB")
        await until(lambda: publisher.state is BrokerState.CONNECTED)


async def test_the_doctor_declares_what_the_service_would_and_publishes_nothing(broker: Broker) -> None:
    first = await diagnose(broker.url)
    assert [finding.verdict for finding in first] == [Verdict.OK, Verdict.OK]
    assert await diagnose(broker.url) == first
    assert await broker.count_events() == 0
    (unreachable,) = await diagnose("amqp://guest:wrong@127.0.0.1:1/")
    assert (unreachable.verdict, "Connect call failed" in unreachable.found) == (Verdict.FAILED, True)
