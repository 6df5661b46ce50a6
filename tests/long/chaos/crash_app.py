"""The service as app.py makes it, with a bug in an actor: the publisher raises an error that no broker raises."""

from functools import partial

from litestar import Litestar

from bg_ingest.domain.changes import Change
from bg_ingest.server import Server, listen
from bg_ingest.settings import get_settings
from tests.long.chaos.event_file_app import compose
from workers import build
from workers.supervisor import CrashLimit


class CrashingPublisher:
    """A Publisher with a bug."""

    async def publish(self, change: Change) -> bool:
        raise KeyError(change.number)


def load() -> Litestar:
    # Ten crashes take over six minutes of growing delays; their count is tested in virtual time.
    build.CrashLimit = partial(CrashLimit, crashes=1)  # type: ignore[attr-defined,assignment]  # imported there, not meant for us
    return compose(CrashingPublisher())


def main() -> None:
    settings = get_settings()
    Server(load, listen(settings.host, settings.port)).serve()


if __name__ == "__main__":
    main()
