"""What can be made to go wrong: plain values, added by Python or as JSON with their `kind`.

A call fault touches calls; a reading fault changes which readings exist. `user` None means every user.
"""

import random
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal, TypeAlias

import msgspec

from bg_ingest.simulator.wire import Record

Endpoint = Literal["token", "egvs", "dataRange"]
Instant: TypeAlias = Annotated[datetime, msgspec.Meta(tz=True)]
Damage = Literal["no_value", "unknown_unit", "garbage_time", "new_words", "no_transmitter"]


class CallFault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    """Meets calls of one user and endpoint, or any, until `count` calls met it, until `until`, or until deleted."""

    user: str | None = None
    endpoint: Endpoint | Literal["any"] = "any"
    count: int | None = None
    until: Instant | None = None
    probability: float = 1.0


class Slow(CallFault, frozen=True, tag="slow"):
    """The call is carried out `seconds` late."""

    seconds: Annotated[float, msgspec.Meta(ge=0)]


class Throttled(CallFault, frozen=True, tag="throttled"):
    """429 instead of an answer; `retry_after` seconds are told as a number, or as an HTTP date."""

    retry_after: Annotated[int, msgspec.Meta(ge=0)] | None = None
    as_date: bool = False


class Failed(CallFault, frozen=True, tag="failed"):
    """An error page of a gateway instead of an answer. A token call that failed rotated nothing."""

    status: Annotated[int, msgspec.Meta(ge=400, le=599)] = 503


class Html(CallFault, frozen=True, tag="html"):
    """200 and a web page instead of an answer."""


class Reset(CallFault, frozen=True, tag="reset"):
    """The connection breaks before the call is carried out: nothing is rotated."""


class ReplyLost(CallFault, frozen=True, tag="reply_lost"):
    """The call is carried out, then the connection breaks in the middle of the reply: a refresh token is spent."""


class Truncated(CallFault, frozen=True, tag="truncated"):
    """The call is carried out; half of its body arrives, and the headers say that this is all."""


class Duplicated(CallFault, frozen=True, tag="duplicated"):
    """Every third record of the page comes twice."""


class Shuffled(CallFault, frozen=True, tag="shuffled"):
    """The records of the page come in no order."""


class Damaged(CallFault, frozen=True, tag="damaged"):
    """Every `every`-th record is one that Dexcom should not send, in each of `ways` by turns."""

    every: Annotated[int, msgspec.Meta(ge=1)] = 10
    ways: Annotated[tuple[Damage, ...], msgspec.Meta(min_length=1)] = (
        "no_value",
        "unknown_unit",
        "garbage_time",
        "new_words",
        "no_transmitter",
    )


class ReadingFault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    """Concerns what was measured in [start, end)."""

    user: str | None = None
    start: Instant
    end: Instant


class Late(ReadingFault, frozen=True, tag="late"):
    """The readings do not show before `shown_at`: a phone out of reach, a receiver not yet uploaded."""

    shown_at: Instant


class Revised(ReadingFault, frozen=True, tag="revised"):
    """From `revised_at` on the values are `by` mg/dL higher."""

    revised_at: Instant
    by: int


Fault: TypeAlias = (
    Slow | Throttled | Failed | Html | Reset | ReplyLost | Truncated | Duplicated | Shuffled | Damaged | Late | Revised
)
AnswerFault: TypeAlias = Throttled | Failed | Html | Reset
"""Faults that answer in the place of the true answer."""
DeliveryFault: TypeAlias = ReplyLost | Truncated
"""Faults that keep the true answer from arriving whole."""

_DAMAGE: dict[Damage, dict[str, object]] = {
    "no_value": {"value": None},
    "unknown_unit": {"unit": "unknown"},
    "garbage_time": {"system_time": "yesterday-ish", "display_time": ""},
    "new_words": {"trend": "sideways", "display_device": "smartwatch", "transmitter_generation": "g9"},
    "no_transmitter": {"transmitter_id": ""},
}


def apply_page_faults(records: Sequence[Record], faults: Sequence[Fault], seed: int) -> list[Record]:
    """The page's records as the faults leave them. Pure."""
    changed = list(records)
    for fault in faults:
        match fault:
            case Duplicated():
                changed += changed[::3]
            case Shuffled():
                random.Random(seed).shuffle(changed)
            case Damaged(every=every, ways=ways):
                for number, index in enumerate(range(every - 1, len(changed), every)):
                    damage = _DAMAGE[ways[number % len(ways)]]
                    changed[index] = msgspec.structs.replace(changed[index], **damage)
            case _:
                pass
    return changed
