"""Who may push to us with a token: a client of the operator's own issuer, with the scope for it."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from contextlib import suppress
from datetime import datetime, timedelta
from hashlib import sha256

from bg_ingest.domain.access import WebhookProof
from bg_ingest.domain.connections import Connection
from bg_ingest.domain.ids import ConnectionId, UserId
from bg_ingest.domain.polling import Outcome, PollResult
from bg_ingest.domain.readings import Origin
from bg_ingest.errors import Fenced, NotFound, ProviderMisbehaved, StoreUnavailable
from bg_ingest.ports import Clock, Page, PushProvider, TokenVerifier, Wakeups
from bg_ingest.services.polling.ingest import Ingester
from bg_ingest.services.queries.timeline import RecentEvents
from bg_ingest.services.retrying import retrying
from bg_ingest.store import Store


class SenderTokens:
    """Knows them by their tokens; whom the readings are of is the page's and the connection's matter."""

    def __init__(self, token_verifier: TokenVerifier | None = None, scope: str = "") -> None:
        self._token_verifier = token_verifier
        self._scope = scope

    async def verify(self, token: str) -> bool:
        """Tell whether the token's holder may push; IssuerUnavailable when that cannot be known."""
        claims = await self._token_verifier.verify(token) if self._token_verifier else None
        return claims is not None and self._scope in claims.scopes


ID_RETENTION = timedelta(days=4)
"""Senders by the book repeat for 3 days and 4 hours (the retry schedule of Standard Webhooks). A repeat that came
later would store nothing twice, but could revise a value back that was revised in the meantime."""


class WebhookReceiver:
    """Takes webhooks whose sender is known to be who they say."""

    def __init__(
        self,
        store: Store,
        providers: Mapping[str, PushProvider],
        ingester: Ingester,
        clock: Clock,
        wakeups: Wakeups,
        recent_events: RecentEvents,
        sender_tokens: SenderTokens,
        proofs: Mapping[str, AbstractSet[WebhookProof]],
    ) -> None:
        """``proofs`` says what the webhooks of a provider may be proven by, where that is not a signature."""
        self.sender_tokens = sender_tokens
        self._connections = store.connections
        self._webhooks = store.webhooks
        self._inbox = store.inbox
        self._providers = providers
        self._proofs = {name: proofs.get(name, {WebhookProof.SIGNATURE}) for name in providers}
        self._ingester = ingester
        self._clock = clock
        self._wakeups = wakeups
        self._recent_events = recent_events

    def now(self) -> datetime:
        return self._clock.now()

    def accepts(self, proof: WebhookProof) -> bool:
        """Tell whether any provider's webhooks may be proven by this."""
        return any(proof in each for each in self._proofs.values())

    async def receive(
        self, user: UserId, webhook_id: str | None, content: bytes, proof: WebhookProof = WebhookProof.SIGNATURE
    ) -> PollResult:
        """Return what was new in it once that is durable; an id that was received before brings nothing.

        Without an id that its sender has vouched for, the same content is the same webhook; except where it asks us
        to look, which may be asked again. ProviderMisbehaved when it is nothing that a provider pushes with this
        proof, Unknown when the user has no connection that it is for. After any error the same webhook may be sent
        again, and has its whole effect.
        """
        pages = await self._parse_pages(content, proof)
        identity = f"content {sha256(content).hexdigest()}" if webhook_id is None else webhook_id
        result = await self._store_pages(user, pages, identity, has_id=webhook_id is not None)
        return result or PollResult(Outcome.NOTHING_NEW)

    @retrying(Fenced, tries=5, error=lambda: StoreUnavailable("the connection changes all the time"))
    async def _store_pages(
        self, user: UserId, pages: Mapping[str, Page], identity: str, *, has_id: bool
    ) -> PollResult | None:
        connection = await self._find_connection(user, pages)
        page = pages[connection.id.provider]
        # Fenced: the connection was disconnected, or connected anew, since it was read
        return await self.store(connection, page, identity, once=has_id or bool(page.readings or page.unreadable))

    async def store(self, connection: Connection, page: Page, identity: str, *, once: bool) -> PollResult | None:
        """Keep what is in it; None where it was received before."""
        if await self._webhooks.contains(connection, identity, self.now()):
            self._recent_events.add_webhook(connection.id, None)
            return None
        result = await self._store_page(connection, page)
        # Only now: were the id written first, a crash in between would make the sender's repeat ineffective.
        if once:
            await self._webhooks.add(connection, identity, self.now() + ID_RETENTION)
        self._recent_events.add_webhook(connection.id, result)
        return result

    def record_rejection(self, problem: str) -> None:
        """Hear of a webhook that was refused, and by what type of problem; whatever it was, nothing is noted of it."""

    async def _parse_pages(self, content: bytes, proof: WebhookProof) -> dict[str, Page]:
        """Return how each provider reads it that can, and that this proof is good for."""
        pages: dict[str, Page] = {}
        for name, provider in self._providers.items():
            if proof in self._proofs[name]:
                with suppress(ProviderMisbehaved):
                    pages[name] = await provider.parse_push(content)
        if not pages:
            raise ProviderMisbehaved("no provider pushes such a thing")
        return pages

    async def _find_connection(self, user: UserId, pages: Mapping[str, Page]) -> Connection:
        """Return the user's connection that a page is for; who is refused does not learn what was missing."""
        for name, page in pages.items():
            found = await self._connections.get(ConnectionId(user, name))
            if found and found.accepts_pushes and found.provider_account == page.provider_account:
                return found
        raise NotFound("There is no connection of this user that this is for: connect the user to the provider first.")

    async def _store_page(self, connection: Connection, page: Page) -> PollResult:
        if page.readings or page.unreadable:
            result, _ = await self._ingester.ingest(connection, page, origin=Origin.WEBHOOK)
            return result
        await self._inbox.request_poll(connection.id)
        self._wakeups.wake_poller(connection.id)
        return PollResult(Outcome.NOTHING_NEW)
