"""Webhooks: proof of the sender, detection of duplicates, and storage of the pages."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256

from bg_ingest.domain.access import TokenClaims, WebhookProof
from bg_ingest.domain.commits import ReceivedWebhook, StoredWebhookId
from bg_ingest.domain.connections import POLLED_STATES, Connection
from bg_ingest.domain.ids import UserId
from bg_ingest.domain.polling import Outcome, PollResult
from bg_ingest.domain.readings import Origin
from bg_ingest.domain.segments import MAX_SEGMENTS_PER_COMMIT, segment_starts
from bg_ingest.errors import Fenced, NotFound, ProviderMisbehaved, StoreUnavailable
from bg_ingest.ports import Clock, Observer, Page, PushProvider, TokenVerifier, Wakeups
from bg_ingest.services.polling.ingest import Ingester
from bg_ingest.services.retries import retrying
from bg_ingest.store import Store
from bg_ingest.store.webhooks import WebhookRead


class SenderTokens:
    """Verifies senders by tokens of the operator's issuer.

    A token does not determine the user of the readings. The request names the user, and the user's connection must have
    the provider account that the page names.
    """

    def __init__(self, token_verifier: TokenVerifier | None = None, scope: str = "") -> None:
        self._token_verifier = token_verifier
        self._scope = scope

    async def verify(self, token: str) -> TokenClaims | None:
        """Return the claims of a token that permits pushes, else None; IssuerUnavailable if it cannot be verified."""
        claims = await self._token_verifier.verify(token) if self._token_verifier else None
        return claims if claims and self._scope in claims.scopes else None


ID_RETENTION = timedelta(days=4)
"""Time for which the id of a webhook is stored. Senders that follow Standard Webhooks repeat a webhook for 3 days and
4 hours. A repeat after ``ID_RETENTION`` would store no reading twice, but could undo a revision made in between."""


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
    """Accepted proofs for each provider. A provider without an entry accepts signatures only."""

    def now(self) -> datetime:
        return self.clock.now()

    def accepts(self, proof: WebhookProof) -> bool:
        """Return True if at least one provider accepts this proof."""
        return any(proof in self._proofs(name) for name in self.providers)

    def _proofs(self, provider: str) -> AbstractSet[WebhookProof]:
        return self.proofs.get(provider, {WebhookProof.SIGNATURE})

    async def receive(
        self, user: UserId, webhook_id: str | None, content: bytes, proof: WebhookProof = WebhookProof.SIGNATURE
    ) -> PollResult:
        """Return the counts of the webhook after its effect is durable; counts of zero if it was received before.

        Without a signed id, the digest of the content serves as the id. The id of a page without records is stored only
        if it is signed; otherwise each repeat of the page requests a poll. ProviderMisbehaved if no provider pushes
        such content with this proof; NotFound if the user has no connection that the content belongs to. After an error
        the sender can repeat the webhook, and the repeat has the whole effect.
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
            # a paused connection is not polled, and the end of the pause requests a poll
            if connection.state in POLLED_STATES:
                await self.store.inbox.request_poll(connection.id)
                self.wakeups.wake_poller(connection.id)
            # the id is written last: after a crash between the two writes, a repeat must still request the poll
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
            raise ProviderMisbehaved("no provider pushes such content with this proof")
        return pages


def _segments_of_one_commit(pages: Mapping[str, Page]) -> set[datetime]:
    """Return the segments of the readings; none if several commits are needed, because each commit reads its own."""
    starts = segment_starts(reading for page in pages.values() for reading in page.readings)
    return starts if len(starts) <= MAX_SEGMENTS_PER_COMMIT else set()


def _find_connection(read: WebhookRead, pages: Mapping[str, Page]) -> Connection:
    """Return the user's connection for one of the pages. NotFound does not reveal the reason."""
    for name, page in pages.items():
        connection = read.connections.get(name)
        if connection and connection.accepts_pushes and connection.provider_account == page.provider_account:
            return connection
    raise NotFound("This user has no connection that the webhook belongs to: connect the user to the provider first.")
