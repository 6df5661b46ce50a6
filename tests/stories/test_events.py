"""Published events agree with docs/asyncapi.yaml and docs/events.md in every field."""

import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import jsonschema  # type: ignore[import-untyped]  # ships no types
import msgspec
import pytest
import yaml  # type: ignore[import-untyped]  # ships no types

from bg_ingest.domain.changes import EVENT_TYPES, Change, GapHealed
from bg_ingest.domain.cloud_events import CONTENT_TYPE, EXCHANGE, encode_cloud_event
from bg_ingest.domain.connections import ConnectionState, PollDefaults
from bg_ingest.domain.gaps import Cause, Gap
from bg_ingest.domain.ids import UserId
from bg_ingest.domain.readings import Origin
from bg_ingest.wiring import SOURCE
from tests.harness.service import START, ServiceHarness, open_service
from tests.harness.webhook_sender import envelope, record

DOCS = Path(__file__).parents[2] / "docs"
DOCUMENT: dict[str, Any] = yaml.safe_load((DOCS / "asyncapi.yaml").read_text("utf-8"))
MESSAGES = {each["name"]: each for each in DOCUMENT["components"]["messages"].values()}


def check_event(event: dict[str, Any]) -> None:
    """Raise ValidationError unless the event matches the document's schema of its type."""
    schema = {"components": DOCUMENT["components"], **MESSAGES[event["type"]]["payload"]}
    checker = jsonschema.Draft7Validator.FORMAT_CHECKER
    jsonschema.Draft7Validator(schema, format_checker=checker).validate(event)


async def push(service: ServiceHarness, at: datetime, value: int) -> None:
    """Push a reading of the device that has the newest one."""
    device = (await service.stored_readings("ada"))[-1].reading.device
    pushed = record(at, value, transmitterId=device.transmitter, displayDevice=device.display)
    answer = await service.push("ada", envelope(device.provider_account, [pushed]), f"{at} {value}")
    assert answer.status_code == 202, answer.text


async def cause_all_events(service: ServiceHarness) -> None:
    """Have Ada live through each type of event but a gap's healing, which takes a day."""
    await service.connect("ada")
    await anyio.sleep(60)
    newest = (await service.stored_readings("ada"))[-1].reading
    await push(service, newest.measured_at, newest.glucose_mg_dl + 1)  # a revision
    for number, value in enumerate((30, 500), start=1):  # values that sensors show as LOW and HIGH
        await push(service, newest.measured_at - timedelta(seconds=number), value)
    await service.api.delete("/api/users/ada/connections/dexcom")
    await anyio.sleep(60)
    await service.api.delete("/api/users/ada")
    await anyio.sleep(120)


def gap_is_healed() -> bytes:
    """Return the event of a gap that healed."""
    gap = Gap(
        after=START,
        before=START + timedelta(minutes=20),
        cadence_seconds=300,
        cause=Cause.SERVICE_DOWN,
        opened_at=START + timedelta(hours=1),
        healed_at=START + timedelta(hours=5),
    )
    return encode_cloud_event(Change(UserId("ada"), 1, START, GapHealed("dexcom", gap)), SOURCE)


async def published_events() -> list[dict[str, Any]]:
    async with open_service(over_http=True, defaults=PollDefaults(backfill_days=2)) as service, service.running():
        await cause_all_events(service)
        return [msgspec.json.decode(body) for body in [gap_is_healed(), *(each.body for each in service.events)]]


@pytest.mark.usefixtures("with_and_without_log")
async def test_every_type_is_published_as_the_document_says() -> None:
    events = await published_events()
    assert {each["type"] for each in events} == set(EVENT_TYPES.values())
    for event in events:
        check_event(event)


async def test_the_document_says_no_less_than_what_is_published() -> None:
    for event in await published_events():
        with pytest.raises(jsonschema.ValidationError):
            check_event({**event, "data": {**event["data"], "surprise": 1}})
        for missing in event["data"]:
            with pytest.raises(jsonschema.ValidationError):
                check_event(
                    {**event, "data": {name: value for name, value in event["data"].items() if name != missing}}
                )


def test_the_document_is_of_all_types_and_of_our_exchange() -> None:
    assert set(MESSAGES) == set(EVENT_TYPES.values())
    (channel,) = DOCUMENT["channels"].values()
    assert channel["address"] == channel["bindings"]["amqp"]["exchange"]["name"] == EXCHANGE
    assert set(channel["messages"]) == set(DOCUMENT["components"]["messages"])
    assert DOCUMENT["defaultContentType"] == CONTENT_TYPE
    schemas = DOCUMENT["components"]["schemas"]
    assert schemas["origin"]["enum"] == [each.value for each in Origin]
    assert schemas["gap"]["properties"]["cause"]["enum"] == [each.value for each in Cause]
    assert schemas["changed"]["properties"]["state"]["enum"] == [each.value for each in ConnectionState]


def test_every_reference_of_the_document_leads_somewhere_and_every_schema_is_one() -> None:
    for path in set(re.findall(r"\$ref: '#/([^']+)'", (DOCS / "asyncapi.yaml").read_text("utf-8"))):
        found = DOCUMENT
        for part in path.split("/"):
            found = found[part]
    for schema in DOCUMENT["components"]["schemas"].values():
        jsonschema.Draft7Validator.check_schema(schema)


PROSE_KEYS = {"title", "summary", "description", "tags", "externalDocs", "bindings"}
FIELDS: dict[str, tuple[set[str], set[str]]] = {
    "": ({"asyncapi", "info"}, {"id", "servers", "defaultContentType", "channels", "operations", "components"}),
    "info": ({"title", "version"}, {"termsOfService", "contact", "license", "description", "tags", "externalDocs"}),
    "servers": ({"host", "protocol"}, {"protocolVersion", "pathname", "variables", "security", *PROSE_KEYS}),
    "channels": (set(), {"address", "messages", "servers", "parameters", *PROSE_KEYS}),
    "operations": ({"action", "channel"}, {"security", "traits", "messages", "reply", *PROSE_KEYS}),
    "messages": (
        set(),
        {"headers", "payload", "correlationId", "contentType", "name", "examples", "traits", *PROSE_KEYS},
    ),
    "components": (set(), {"schemas", "messages"}),
    "amqp of a channel": (set(), {"is", "exchange", "queue", "bindingVersion"}),
    "amqp of an operation": (
        set(),
        {"expiration", "userId", "cc", "bcc", "priority", "deliveryMode", "mandatory", "timestamp", "bindingVersion"},
    ),
}
"""Required and optional fields of objects, by AsyncAPI 3.0.0 and its AMQP bindings; of components those in use."""


def assert_fields(kind: str, *objects: dict[str, Any]) -> None:
    needed, more = FIELDS[kind]
    for each in objects:
        assert needed <= each.keys() <= needed | more, kind


def test_the_document_has_the_structure_of_asyncapi_3() -> None:
    """AsyncAPI's official schema is not available offline; these are its rules for the parts that the document has."""
    assert DOCUMENT["asyncapi"] == "3.0.0"
    assert_fields("", DOCUMENT)
    assert_fields("info", DOCUMENT["info"])
    assert_fields("components", DOCUMENT["components"])
    for kind in ("servers", "channels", "operations"):
        assert_fields(kind, *DOCUMENT[kind].values())
    assert_fields("messages", *DOCUMENT["components"]["messages"].values())
    assert_fields("amqp of a channel", *(each["bindings"]["amqp"] for each in DOCUMENT["channels"].values()))
    assert_fields("amqp of an operation", *(each["bindings"]["amqp"] for each in DOCUMENT["operations"].values()))


def test_every_operation_is_of_a_channel_and_its_messages_are_that_channels() -> None:
    for operation in DOCUMENT["operations"].values():
        assert operation["action"] in {"send", "receive"}
        (reference,) = operation["channel"].items()
        name = reference[1].removeprefix("#/channels/")
        assert (reference[0], name in DOCUMENT["channels"]) == ("$ref", True)
        for message in operation.get("messages", ()):
            assert (
                message["$ref"].removeprefix(f"#/channels/{name}/messages/") in DOCUMENT["channels"][name]["messages"]
            )
    for channel in DOCUMENT["channels"].values():
        for name, message in channel["messages"].items():
            assert message == {"$ref": f"#/components/messages/{name}"}
            assert name in DOCUMENT["components"]["messages"]


def test_the_page_of_events_has_exactly_the_existing_types() -> None:
    rows = re.findall(r"^\| `(bg\.[a-z.0-9]+)` \|", (DOCS / "events.md").read_text("utf-8"), re.MULTILINE)
    assert sorted(rows) == sorted(EVENT_TYPES.values())
