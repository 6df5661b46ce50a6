"""Settings of the message broker: limits and formats."""

import pytest

from tests.harness.settings import Load, refusal


def test_by_default_no_queue_is_declared_and_a_stream_keeps_two_days(load: Load) -> None:
    settings = load()
    assert (settings.rabbitmq_queue, settings.rabbitmq_stream) == (None, None)
    assert settings.rabbitmq_stream_max_age == "2D"


@pytest.mark.parametrize("name", ["RABBITMQ_QUEUE", "RABBITMQ_STREAM"])
def test_a_name_of_a_queue_has_at_most_255_bytes(load: Load, name: str) -> None:
    for longest in ("x" * 255, "\u00b5" * 127):
        assert getattr(load(**{name: longest}), name.lower()) == longest
    for too_long in ("x" * 256, "\u00b5" * 128):
        assert f"{name} should be the name of a queue" in refusal(load, **{name: too_long})


def test_a_stream_beside_a_queue_has_a_name_of_its_own(load: Load) -> None:
    settings = load(RABBITMQ_QUEUE="events", RABBITMQ_STREAM="log")
    assert (settings.rabbitmq_queue, settings.rabbitmq_stream) == ("events", "log")
    line = refusal(load, RABBITMQ_QUEUE="events", RABBITMQ_STREAM="events")
    assert "RABBITMQ_STREAM should differ from RABBITMQ_QUEUE" in line


@pytest.mark.parametrize("age", ["1s", "90m", "36h", "2D", "6M", "999999Y"])
def test_the_age_of_a_stream_is_a_number_and_a_unit_of_rabbitmq(load: Load, age: str) -> None:
    assert load(RABBITMQ_STREAM="log", RABBITMQ_STREAM_MAX_AGE=age).rabbitmq_stream_max_age == age


@pytest.mark.parametrize(
    "age", ["0D", "-1D", "1000000s", "2", "D", "2d", "2W", "2 D", "1.5h", "2D1h", "2D\n2D", "\u0662D"]
)
def test_another_age_is_refused(load: Load, age: str) -> None:
    assert "RABBITMQ_STREAM_MAX_AGE should be a number" in refusal(load, RABBITMQ_STREAM_MAX_AGE=age)
