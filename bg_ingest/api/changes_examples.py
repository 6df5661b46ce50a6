"""Examples of the answers about changes and many users, for the documentation of the routes."""

from typing import Any

_EVENT: dict[str, Any] = {
    "specversion": "1.0",
    "id": "ada/42",
    "source": "/bg-ingest",
    "type": "bg.connection.changed.v1",
    "subject": "ada",
    "time": "2025-04-26T14:30:12.345Z",
    "datacontenttype": "application/json",
    "data": {"user_id": "ada", "change": 42, "provider": "example", "state": "active", "reason": None},
}
CHANGES = {"user_id": "ada", "events": [_EVENT], "after": 42, "last": 217, "more": True}
EVENTS = (
    '{"specversion":"1.0","id":"ada/42","type":"bg.readings.recorded.v1"}\n'
    '{"kind":"end","after":42,"last":42,"more":false}\n'
)
STREAM = (
    "retry: 2417\n\n"
    'event: snapshot\nid: 41\ndata: {"user_id":"ada","change":41,"latest":null,"missed":null}\n\n'
    'event: bg.readings.recorded.v1\nid: 42\ndata: {"specversion":"1.0","id":"ada/42"}\n\n'
    ":\n\n"
    'event: end\ndata: {"reason":"restarting"}\n\n'
)
STREAM_OF_MANY = (
    "retry: 2417\n\n"
    'event: unknown\ndata: {"user_id":"zoe"}\n\n'
    'event: bg.readings.recorded.v1\nid: ada/42\ndata: {"specversion":"1.0","id":"ada/42"}\n\n'
)
LINES = (
    '{"kind":"event","event":{"specversion":"1.0","id":"ada/218","type":"bg.readings.recorded.v1"}}\n'
    '{"kind":"snapshot","user_id":"ben","change":40,"latest":null}\n'
    '{"kind":"expired","user_id":"eva","first_kept":900,"last":1200}\n'
    '{"kind":"unknown","user_id":"zoe"}\n'
    '{"kind":"end","after":{"ada":218,"ben":40},"more":false}\n'
)
LATEST_OF_MANY = {
    "readings": [{"user_id": "ben", "timestamp": "2025-04-26T14:30:00Z", "glucose_mg_dl": 110}],
    "missing": ["zoe"],
}
