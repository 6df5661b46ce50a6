"""Webhooks: proof of the sender, detection of duplicates, and storage of the pages."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256

from bg_ingest.domain.access import TokenClaims, WebhookProof
from bg_ingest.domain.commits import ReceivedWebhook, StoredWebhookId
from bg_ingest.domain.connections import Connection
from bg_ingest.domain.ids import UserId
from bg_ingest.domain.polling import Outcome, PollResult
from bg_ingest.domain.readings import Origin
from bg_ingest.domain.segments import MAX_SEGMENTS_PER_COMMIT, segment_start
from bg_ingest.errors import Fenced, NotFound, ProviderMisbehaved, StoreUnavailable
from bg_ingest.ports import Clock, Observer, Page, PushProvider, TokenVerifier, Wakeups
from bg_ingest.services.polling.commit import retrying
from bg_ingest.services.polling.ingest import Ingester
from bg_ingest.store import Store
from bg_ingest.store.webhooks import WebhookRead


class SenderTokens:
    """Verifies senders by tokens of the operator's issuer.

    A token does not determine the user of the readings; the page and the connection do.
    """

    def __init__(self, token_verifier: TokenVerifier | None = None, scope: str = "") -> None:
        self._token_verifier = token_verifier
        self._scope = scope

    async def verify(self, token: str) -> TokenClaims | None:
        """Return the claims of a token that allows to push, else None; IssuerUnavailable if it cannot be verified."""
        claims = await self._token_verifier.verify(token) if self._token_verifier else None
        return claims if claims and self._scope in claims.scopes else None


ID_RETENTION = timedelta(days=4)
"""Senders that follow Standard Webhooks repeat for 3 days and 4 hours. A later repeat would store nothing twice, but
could undo a revision made in the meantime."""


@dataclass(frozen=True)
class WebhookReceiver:
    """Receives webhooks with a verified sender."""

    store: Store
    providers: Mapping[str, PushProvider]
    ingester: Ingester
    clock: Clock
    wakeups: Wakeups
    observer: Observer
    sender_tokens: SenderTokens
    proofs: Mapping[str, AbstractSet[WebhookProof]]
    """Accepted proofs of webhooks by provider. A provider without an entry accepts signatures only."""

    def now(self) -> datetime:
        return self.clock.now()

    def accepts(self, proof: WebhookProof) -> bool:
        """Return True if the webhooks of any provider accept this proof."""
        return any(proof in self._proofs(name) for name in self.providers)

    def _proofs(self, provider: str) -> AbstractSet[WebhookProof]:
        return self.proofs.get(provider, {WebhookProof.SIGNATURE})

    async def receive(
        self, user: UserId, webhook_id: str | None, content: bytes, proof: WebhookProof = WebhookProof.SIGNATURE
    ) -> PollResult:
        """Return the counts of the webhook after its effect is durable; zero for an id that was received before.

        Without a signed id, the same content is the same webhook. A request for a poll is the exception, because it may
        be repeated. ProviderMisbehaved if no provider pushes such content with this proof; NotFound if the user has no
        connection for it. After any error the same webhook may be sent again, with its whole effect.
        """
        pages = await self._parse_pages(content, proof)
        identity = f"content {sha256(content).hexdigest()}" if webhook_id is None else webhook_id
        return await self._store(user, pages, identity, has_id=webhook_id is not None)

    @retrying(Fenced, tries=5, error=lambda: StoreUnavailable("the connection changes all the time"))
    async def _store(self, user: UserId, pages: Mapping[str, Page], identity: str, *, has_id: bool) -> PollResult:
        """Store the readings or the poll request of a page, unless the webhook was received before."""
        segments = _segments_of_one_commit(pages)
        read = await self.store.webhooks.read(user, pages.keys(), identity, segments)
        connection, result = _find_connection(read, pages), PollResult(Outcome.NOTHING_NEW)
        now, stored_id = self.now(), read.ids.get(connection.id.provider)
        if stored_id is not None and stored_id.detects(connection, now):
            self.observer.webhook(connection.id, None)
            return result
        page = pages[connection.id.provider]
        new_id = StoredWebhookId(connection.generation, now + ID_RETENTION)
        webhook = ReceivedWebhook(connection.id, identity, new_id, replaces=stored_id)
        if page.readings or page.unreadable:
            # raises Fenced if the connection was disconnected or connected again since it was read
            result, _ = await self.ingester.ingest(
                connection, page, origin=Origin.WEBHOOK, webhook=webhook, prefetched=read.series
            )
        else:
            await self.store.inbox.request_poll(connection.id)
            self.wakeups.wake_poller(connection.id)
            # written after the request, because a crash after the id alone would make the repeat ineffective
            if has_id:
                await self.store.webhooks.add(webhook)
        self.observer.webhook(connection.id, result)
        return result

    async def _parse_pages(self, content: bytes, proof: WebhookProof) -> dict[str, Page]:
        """Return the content as parsed by each provider that can read it and accepts this proof."""
        pages: dict[str, Page] = {}
        for name, provider in self.providers.items():
            if proof in self._proofs(name):
                with suppress(ProviderMisbehaved):
                    pages[name] = await provider.parse_push(content)
        if not pages:
            raise ProviderMisbehaved("no provider pushes such a thing")
        return pages


def _segments_of_one_commit(pages: Mapping[str, Page]) -> set[datetime]:
    """Return the segments of the readings; none if they need several commits, each of which reads its own."""
    starts = {segment_start(reading.measured_at) for page in pages.values() for reading in page.readings}
    return starts if len(starts) <= MAX_SEGMENTS_PER_COMMIT else set()


def _find_connection(read: WebhookRead, pages: Mapping[str, Page]) -> Connection:
    """Return the user's connection for one of the pages. The error does not reveal which part is missing."""
    for name, page in pages.items():
        connection = read.connections.get(name)
        if connection and connection.accepts_pushes and connection.provider_account == page.provider_account:
            return connection
    raise NotFound("There is no connection of this user that this is for: connect the user to the provider first.")
