"""Same readings in both layouts: segments written by polls of three readings, and an item for each reading."""

import random
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

import msgspec

from bg_ingest.adapters.dynamodb.codec import Wire, encode_item, encode_value
from bg_ingest.adapters.dynamodb.transport import Transport
from bg_ingest.domain.commits import ConnectionSummary, Head, readings_commit, with_summary
from bg_ingest.domain.connections import ConnectionState
from bg_ingest.domain.ids import UserId
from bg_ingest.domain.readings import Device, Flag, Origin, Reading
from bg_ingest.domain.segments import Segment, decide, segment_start
from bg_ingest.ports.table import Item, Key
from bg_ingest.store import keys
from bg_ingest.store.head import encode_head
from bg_ingest.store.segments import encode_segment
from tests.long.benchmarks.steady_sensor import CADENCE, DAY

START = datetime(2026, 3, 1, tzinfo=UTC)
PROVIDER, POLLED = "dexcom", 3
PUT_BATCH_SIZE = 25
"""Items in one BatchWriteItem."""

TRENDS = (("flat", 0.3), ("fortyFiveUp", 1.4), ("singleDown", -2.2))


class Person(msgspec.Struct, frozen=True):
    """A user with a number of days of readings from START on."""

    user: UserId
    days: float

    @property
    def end(self) -> datetime:
        return START + self.days * DAY

    @property
    def count(self) -> int:
        return round(self.days * 288)


OF_AN_HOUR = tuple(Person(UserId(f"hour-{number}"), 1 / 24) for number in range(200))
OF_A_DAY = tuple(Person(UserId(f"day-{number}"), 1) for number in range(8))
FORTNIGHT, QUARTER = Person(UserId("fortnight"), 14), Person(UserId("quarter"), 90)
PEOPLE = (*OF_AN_HOUR, *OF_A_DAY, FORTNIGHT, QUARTER)


def series(person: Person) -> Iterator[Reading]:
    """Yield the readings of the user's sensor: every five minutes, give or take a second."""
    chance, value = random.Random(person.user), 110
    device = Device(PROVIDER, f"account-of-{person.user}", "ab" * 32, "iOS", "g7")
    for number in range(person.count):
        value = min(390, max(45, value + chance.randint(-6, 6)))
        trend, rate = chance.choice(TRENDS)
        at = START + number * CADENCE + timedelta(seconds=chance.choice((0, 0, 0, 0, 0, 0, 1)))
        yield Reading(at, value, Flag.OK, device, trend, rate, 3600)


def segments(person: Person) -> list[tuple[Key, Item]]:
    """Return the head and the segments that result from polls of three readings each."""
    head = with_summary(Head(person.user), PROVIDER, ConnectionSummary(ConnectionState.ACTIVE, 300, 30, 900))
    known: dict[datetime, Segment] = {}
    readings = list(series(person))
    for first in range(0, len(readings), POLLED):
        batch = readings[first : first + POLLED]
        touched = {start: known[start] for each in batch if (start := segment_start(each.measured_at)) in known}
        at = head.next_recorded_at(batch[-1].measured_at + timedelta(seconds=45))
        decision = decide(touched, batch, at=at, last_change=head.last_change)
        known |= {each.start: each for each in decision.segments}
        head = readings_commit(head, touched, decision, provider=PROVIDER, origin=Origin.LIVE, at=at).head
    rows = [(keys.segment(person.user, each.start), encode_segment(each)) for each in known.values()]
    return [(keys.head(person.user), encode_head(head)), *rows]


def items(person: Person) -> list[Item]:
    """Return an item for each reading, as the baseline keeps it."""
    return [
        {
            "user_id": person.user,
            "timestamp": f"{each.measured_at:%Y-%m-%dT%H:%M:%SZ}",
            "glucose_mg_dl": each.glucose_mg_dl,
            "trend": each.trend or "",
            "trend_rate": str(each.trend_rate_mg_dl_min),
        }
        for each in series(person)
    ]


async def put_all(client: Transport, table: str, wires: Sequence[Wire]) -> None:
    for first in range(0, len(wires), PUT_BATCH_SIZE):
        some = [{"PutRequest": {"Item": each}} for each in wires[first : first + PUT_BATCH_SIZE]]
        answer = await client.call("BatchWriteItem", RequestItems={table: some})
        assert not answer.get("UnprocessedItems")


async def fill_both(client: Transport, ours: str, baseline: str) -> None:
    """Write all users into both tables; the baseline's table is created here."""
    await client.call(
        "CreateTable",
        TableName=baseline,
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": "user_id", "KeyType": "HASH"}, {"AttributeName": "timestamp", "KeyType": "RANGE"}],
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("user_id", "timestamp")],
    )
    for person in PEOPLE:
        await put_all(client, ours, [encode_item(*row) for row in segments(person)])
        plain = [{name: encode_value(value) for name, value in each.items()} for each in items(person)]
        await put_all(client, baseline, plain)
