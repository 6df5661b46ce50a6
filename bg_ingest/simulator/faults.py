"""Faults as plain values, added by Python code, or by an admin route as JSON with a `kind`.

A call fault affects calls. A reading fault changes the visible readings. `user` None means every user.
"""

from datetime import datetime
from typing import Annotated, Literal, TypeAlias, get_args

import msgspec

Endpoint = Literal["token", "egvs", "dataRange"]
Instant: TypeAlias = Annotated[datetime, msgspec.Meta(tz=True)]
Damage = Literal["no_value", "unknown_unit", "garbage_time", "new_words", "no_transmitter"]


class CallFault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    """Affects each call of `user` to `endpoint` with `probability`.

    The fault ends after `count` affected calls, at `until`, or at its removal, whichever is first.
    """

    user: str | None = None
    endpoint: Endpoint | Literal["any"] = "any"
    count: int | None = None
    until: Instant | None = None
    probability: float = 1.0


class Slow(CallFault, frozen=True, tag="slow"):
    """The call is executed `seconds` late."""

    seconds: Annotated[float, msgspec.Meta(ge=0)]


class Throttled(CallFault, frozen=True, tag="throttled"):
    """429 instead of an answer; `retry_after` is sent in seconds, or as an HTTP date."""

    retry_after: Annotated[int, msgspec.Meta(ge=0)] | None = None
    as_date: bool = False


class Failed(CallFault, frozen=True, tag="failed"):
    """An error page of a gateway, or for 403 the API's own refusal in JSON. A failed token call rotates nothing."""

    status: Annotated[int, msgspec.Meta(ge=400, le=599)] = 503


class Html(CallFault, frozen=True, tag="html"):
    """A web page instead of an answer: 200 as from a captive portal, or 403 as from a firewall."""

    status: Literal[200, 403] = 200


class Reset(CallFault, frozen=True, tag="reset"):
    """The connection breaks before the call is executed: nothing is rotated."""


class ReplyLost(CallFault, frozen=True, tag="reply_lost"):
    """The call is executed, then the connection breaks in the middle of the reply: a refresh token is spent."""


class Truncated(CallFault, frozen=True, tag="truncated"):
    """The call is executed; half of the body arrives, and the headers declare this half to be complete."""


class Duplicated(CallFault, frozen=True, tag="duplicated"):
    """Every third record of the page is repeated."""


class Shuffled(CallFault, frozen=True, tag="shuffled"):
    """The records of the page are in random order."""


class Damaged(CallFault, frozen=True, tag="damaged"):
    """Every `every`-th record is invalid; the kinds of damage cycle through `ways`."""

    every: Annotated[int, msgspec.Meta(ge=1)] = 10
    ways: Annotated[tuple[Damage, ...], msgspec.Meta(min_length=1)] = get_args(Damage)


class ReadingFault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    """Affects readings measured in [start, end)."""

    user: str | None = None
    start: Instant
    end: Instant


class Late(ReadingFault, frozen=True, tag="late"):
    """The readings are invisible before `shown_at`: a phone out of reach, a receiver not yet uploaded."""

    shown_at: Instant


class Revised(ReadingFault, frozen=True, tag="revised"):
    """From `revised_at` on the values are `by` mg/dL higher."""

    revised_at: Instant
    by: int


Fault: TypeAlias = (
    Slow | Throttled | Failed | Html | Reset | ReplyLost | Truncated | Duplicated | Shuffled | Damaged | Late | Revised
)
AnswerFault: TypeAlias = Throttled | Failed | Html | Reset  # replace the answer
DeliveryFault: TypeAlias = ReplyLost | Truncated  # cut the answer
