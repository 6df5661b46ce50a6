"""Numbered changes: their id and their event type."""

from typing import get_args

from bg_ingest.domain.changes import EVENT_TYPES, Change, ChangeData, ReadingsRecorded, UserErased
from bg_ingest.domain.readings import Origin
from tests.fakes.clock import NOON
from tests.harness.sample_values import USER


def test_every_kind_of_change_has_an_event_type_of_its_own() -> None:
    assert set(EVENT_TYPES) == set(get_args(ChangeData))
    assert len(set(EVENT_TYPES.values())) == len(EVENT_TYPES)


def test_the_id_names_user_and_number_and_the_type_follows_from_the_data() -> None:
    change = Change(USER, 7, NOON, ReadingsRecorded("acme", Origin.LIVE, ()))
    assert (change.id, change.type) == ("ada/7", "bg.readings.recorded.v1")
    assert Change(USER, 8, NOON, UserErased()).type == "bg.user.erased.v1"
