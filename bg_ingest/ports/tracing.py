"""Decorators that follow one reading through the parts of the service."""

from typing import Protocol

from bg_ingest.ports.polling import Polls
from bg_ingest.ports.process import Publisher, Wakeups
from bg_ingest.ports.provider import Provider


class Tracing(Protocol):
    """Puts itself around what a reading passes."""

    def around_polls(self, polls: Polls) -> Polls: ...

    def around_provider(self, provider: Provider) -> Provider: ...

    def around_hints(self, hints: Wakeups) -> Wakeups: ...

    def around_publisher(self, publisher: Publisher) -> Publisher: ...


class Untraced:
    """The port Tracing where nothing is traced: every part stays as it is."""

    def around_polls(self, polls: Polls) -> Polls:
        return polls

    def around_provider(self, provider: Provider) -> Provider:
        return provider

    def around_hints(self, hints: Wakeups) -> Wakeups:
        return hints

    def around_publisher(self, publisher: Publisher) -> Publisher:
        return publisher
