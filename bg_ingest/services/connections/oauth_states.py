"""OAuth states of connects, and the refusal of a connect as a text for the person.

A state creates one connection. A repeated callback with the same state returns that connection.
"""

import re
from datetime import datetime, timedelta
from hashlib import blake2b

import anyio
import msgspec
import structlog

from bg_ingest.domain.connections import Connection, ConnectionState
from bg_ingest.domain.ids import ConnectionId, UserId
from bg_ingest.errors import ConnectRefused
from bg_ingest.ports import Clock
from bg_ingest.store import Store

_STATE_PATTERN = re.compile(r"[A-Za-z0-9_-]{43}")
"""Form of ``token_urlsafe(32)``. Anything else is refused without a read of the store."""

SETUP_ERRORS = frozenset({"invalid_request", "unauthorized_client", "unsupported_response_type", "invalid_scope"})
PROVIDER_ERRORS = frozenset({"server_error", "temporarily_unavailable"})
"""Error codes of a callback besides ``access_denied`` (RFC 6749, 4.1.2.1): those caused by our app, and those caused by
the provider."""

RECHECK_SECONDS, MAX_RECHECKS = 0.25, 40
MAX_USE = timedelta(seconds=RECHECK_SECONDS * MAX_RECHECKS)
"""Time for which a callback waits for another callback with the same state, because browsers preload a page and then
load it again. If the other callback began longer ago, it has failed, or its connection does not exist any more."""

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class OAuthState(msgspec.Struct, frozen=True, array_like=True):
    """Content of an OAuth state. The state itself is not stored, only its digest."""

    user: UserId
    provider: str
    region: str
    known_change: int
    """Number of the user's last change when the state was created. A later erasure invalidates the state."""


async def add_state(store: Store, state: str, content: OAuthState, expires_at: datetime) -> None:
    await store.states.add(content.user, _hash_state(state), msgspec.json.encode(content), expires_at)


async def take_state(store: Store, clock: Clock, provider: str, state: str | None) -> OAuthState | Connection | None:
    """Return a state's content to one caller at a time, and to others the connection that the state made.

    None for a state that is unknown, expired or of another provider, and for a used one whose connection does not
    exist.
    """
    if state is None or not _STATE_PATTERN.fullmatch(state):
        return None
    for _ in range(MAX_RECHECKS):
        stored = await store.states.read(_hash_state(state), clock.now())
        content = msgspec.json.decode(stored.content, type=OAuthState) if stored else None
        if stored is None or content is None:
            break
        if content.provider != provider:
            await end_state(store, content, state)
            break
        connection = await store.connections.get(ConnectionId(content.user, provider))
        if connection and connection.generation == generation_of(state) and _exists(connection):
            return connection
        if stored.used_at is None and await store.states.consume(_hash_state(state), clock.now()) is not None:
            return content
        if stored.used_at is not None and clock.now() - stored.used_at > MAX_USE:
            break
        await anyio.sleep(RECHECK_SECONDS)
    return None


async def release_state(store: Store, content: OAuthState, state: str) -> None:
    """Let another callback use a state, after its use failed for a reason that may pass."""
    await store.states.release(content.user, _hash_state(state))


async def end_state(store: Store, content: OAuthState, state: str) -> None:
    """Delete a state whose use was refused for good."""
    await store.states.remove(content.user, _hash_state(state))


def generation_of(state: str) -> str:
    """Return the generation of the connection that a state makes. It is random, because the state is."""
    return blake2b(state.encode(), digest_size=8, person=b"generation").hexdigest()


def _exists(connection: Connection) -> bool:
    return connection.state not in {ConnectionState.CONNECTING, ConnectionState.DISCONNECTED}


def _hash_state(state: str) -> str:
    """Return the digest that is stored instead of a state, so that a reader of the store cannot finish a connect."""
    return blake2b(state.encode(), digest_size=16).hexdigest()


def build_refusal(provider: str, error: str | None) -> ConnectRefused:
    """Return the refusal and log it. The caller has checked the state: only requests with a valid state are logged."""
    known = error if error in SETUP_ERRORS | PROVIDER_ERRORS else "other"
    log.warning("a provider ended a connect", action="connect_ended", provider=provider, provider_error=known)
    if error in SETUP_ERRORS:
        return ConnectRefused(
            "The provider does not accept this service as it is set up, so nothing was connected. Please inform its "
            "operator; starting again will not help until the set-up is corrected."
        )
    return ConnectRefused(
        "The provider could not finish this, and nothing was changed. Please start connecting again in a few minutes."
    )
