"""Parts of polling that `Services` does not hand out, built over the store of a service."""

from bg_ingest.domain.connections import Connection, PollDefaults
from bg_ingest.ports import Capabilities, Sealer
from bg_ingest.services import Services
from bg_ingest.services.polling.commit import Committer
from bg_ingest.services.polling.gaps import GapKeeper
from bg_ingest.services.polling.ingest import Ingester
from bg_ingest.services.polling.quarantine import Quarantine
from bg_ingest.settings import Settings
from bg_ingest.wiring.keys import build_sealer
from tests.fakes.wakeups import RecordingWakeups


def build_committer(services: Services) -> Committer:
    return Committer(services.store, services.observer, RecordingWakeups())


def build_quarantine(services: Services, sealer: Sealer, table: str = "test") -> Quarantine:
    committer = build_committer(services)
    return Quarantine(services.store, committer, services.observer, sealer, services.clock, table)


async def build_quarantine_of(services: Services, settings: Settings) -> Quarantine:
    """Return the quarantine of a service that was opened from settings, with the keys and the table that they name."""
    return build_quarantine(services, await build_sealer(settings), settings.dynamodb_table or "bg-ingest")


def build_ingester(services: Services, sealer: Sealer, connection: Connection, capabilities: Capabilities) -> Ingester:
    return Ingester(
        services.store.readings,
        services.store.webhooks,
        build_quarantine(services, sealer),
        build_committer(services),
        services.observer,
        services.clock,
        {connection.id.provider: capabilities},
        PollDefaults(),
    )


def build_gap_keeper(services: Services) -> GapKeeper:
    return GapKeeper(services.store.readings, services.store.gaps, build_committer(services), services.clock)
