"""What is pushed to us: into the store by the same way as what a poll brings."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from contextlib import suppress
from datetime import datetime, timedelta
from hashlib import sha256

from bg_ingest.domain.connections import Connection
from bg_ingest.domain.credentials import Proof
from bg_ingest.domain.ids import ConnectionId, UserId
from bg_ingest.domain.outcomes import Ending, Outcome
from bg_ingest.domain.readings import Origin
from bg_ingest.errors import Fenced, ProviderMisbehaved, StoreUnavailable, Unknown
from bg_ingest.ports import Clock, Hints, Page, Provider, Store
from bg_ingest.services.ingest import Ingest
from bg_ingest.services.moments import Moments
from bg_ingest.services.senders import Senders

IDS_KEPT = timedelta(days=4)
"""Senders by the book repeat for 3 days and 4 hours (the retry schedule of Standard Webhooks). A repeat that came
later would store nothing twice, but could revise a value back that was revised in the meantime."""

TRIES = 5


class Receiving:
    """Takes webhooks whose sender is known to be who they say."""

    def __init__(
        self,
        store: Store,
        providers: Mapping[str, Provider],
        ingest: Ingest,
        clock: Clock,
        hints: Hints,
        moments: Moments,
        senders: Senders,
        proofs: Mapping[str, AbstractSet[Proof]],
    ) -> None:
        """``proofs`` says what the webhooks of a provider may be proven by, where that is not a signature."""
        self.senders = senders
        self._connections = store.connections
        self._webhooks = store.webhooks
        self._rings = store.rings
        self._pushing = {name: each for name, each in providers.items() if each.capabilities.pushes}
        self._proofs = {name: proofs.get(name, {Proof.SIGNATURE}) for name in self._pushing}
        self._ingest = ingest
        self._clock = clock
        self._hints = hints
        self._moments = moments

    def now(self) -> datetime:
        return self._clock.now()

    def takes(self, proof: Proof) -> bool:
        """Tell whether any provider's webhooks may be proven by this."""
        return any(proof in each for each in self._proofs.values())

    async def receive(
        self, user: UserId, webhook_id: str | None, content: bytes, proof: Proof = Proof.SIGNATURE
    ) -> Outcome:
        """Return what was new in it once that is durable; an id that was received before brings nothing.

        Without an id that its sender has vouched for, the same content is the same webhook; except where it asks us
        to look, which may be asked again. ProviderMisbehaved when it is nothing that a provider pushes with this
        proof, Unknown when the user has no connection that it is for. After any error the same webhook may be sent
        again, and has its whole effect.
        """
        pages = await self._pages(content, proof)
        identity = f"content {sha256(content).hexdigest()}" if webhook_id is None else webhook_id
        for _ in range(TRIES):
            connection = await self._connection(user, pages)
            page = pages[connection.id.provider]
            once = webhook_id is not None or bool(page.readings or page.unreadable)
            try:
                outcome = await self.take(connection, page, identity, once=once)
            except Fenced:  # disconnected, or connected anew, since it was read
                continue
            return outcome or Outcome(Ending.NOTHING_NEW)
        raise StoreUnavailable("the connection changes all the time")

    async def take(self, connection: Connection, page: Page, identity: str, *, once: bool) -> Outcome | None:
        """Keep what is in it; None where it was received before."""
        if await self._webhooks.seen(connection, identity, self.now()):
            self._moments.pushed(connection.id, None)
            return None
        outcome = await self._keep(connection, page)
        # Only now: were the id written first, a crash in between would make the sender's repeat ineffective.
        if once:
            await self._webhooks.note(connection, identity, self.now() + IDS_KEPT)
        self._moments.pushed(connection.id, outcome)
        return outcome

    def turned_away(self, problem: str) -> None:
        """Hear of a webhook that was refused, and by what type of problem; whatever it was, nothing is noted of it."""

    async def _pages(self, content: bytes, proof: Proof) -> dict[str, Page]:
        """Return how each provider reads it that can, and that this proof is good for."""
        pages: dict[str, Page] = {}
        for name, provider in self._pushing.items():
            if proof in self._proofs[name]:
                with suppress(ProviderMisbehaved):
                    pages[name] = await provider.pushed(content)
        if not pages:
            raise ProviderMisbehaved("no provider pushes such a thing")
        return pages

    async def _connection(self, user: UserId, pages: Mapping[str, Page]) -> Connection:
        """Return the user's connection that a page is for; who is refused does not learn what was missing."""
        for name, page in pages.items():
            found = await self._connections.get(ConnectionId(user, name))
            if found and found.takes_pushes and found.provider_account == page.provider_account:
                return found
        raise Unknown("There is no connection of this user that this is for: connect the user to the provider first.")

    async def _keep(self, connection: Connection, page: Page) -> Outcome:
        if page.readings or page.unreadable:
            outcome, _ = await self._ingest.keep(connection, page, origin=Origin.WEBHOOK)
            return outcome
        await self._rings.ring(connection.id)
        self._hints.look(connection.id)
        return Outcome(Ending.NOTHING_NEW)
