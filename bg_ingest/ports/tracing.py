"""Decorators that follow one reading through the parts of the service."""

from typing import Protocol

from bg_ingest.ports.process import Hints, Publisher
from bg_ingest.ports.provider import Provider
from bg_ingest.ports.turns import Turns


class Tracing(Protocol):
    """Puts itself around what a reading passes."""

    def around_turns(self, turns: Turns) -> Turns: ...

    def around_provider(self, provider: Provider) -> Provider: ...

    def around_hints(self, hints: Hints) -> Hints: ...

    def around_publisher(self, publisher: Publisher) -> Publisher: ...


class Untraced:
    """The port Tracing where nothing is traced: every part stays as it is."""

    def around_turns(self, turns: Turns) -> Turns:
        return turns

    def around_provider(self, provider: Provider) -> Provider:
        return provider

    def around_hints(self, hints: Hints) -> Hints:
        return hints

    def around_publisher(self, publisher: Publisher) -> Publisher:
        return publisher
