"""The service as app.py makes it, with an ownership that moves four times as fast: for tests that wait for it."""

from litestar import Litestar

from bg_ingest.server import Server, listen
from bg_ingest.settings import get_settings


def load() -> Litestar:
    from tests.integration.quick_app import make  # noqa: PLC0415 - the supervising process needs none of it

    return make()


def main() -> None:
    settings = get_settings()
    Server(load, listen(settings.host, settings.port)).serve()


if __name__ == "__main__":
    main()
