"""Checks of open streams: their credentials every few seconds, and the hourly audit of their reads."""

from collections import defaultdict
from collections.abc import Collection, Iterable

import anyio
from anyio.lowlevel import checkpoint

from bg_ingest.domain.access import AuditAction, hour_start
from bg_ingest.errors import IssuerUnavailable, StoreError
from bg_ingest.ports import Clock
from bg_ingest.services.access.audit import AuditLog
from bg_ingest.services.access.authenticate import Authenticator
from bg_ingest.services.queries.stream import ChangeStream, EndReason

CREDENTIAL_SECONDS = 10.0
"""Seconds between two checks of a credential. While the store answers, cached keys are at most 12 s old
(``REFRESH_AFTER`` in ``services/access/authenticate.py``), so that the stream of a revoked key ends within 30 s."""


class StreamChecks:
    """Ends the streams of an invalid credential.

    The streams of a credential that cannot be checked now stay open without events.
    """

    def __init__(self, authenticator: Authenticator, audit_log: AuditLog, clock: Clock) -> None:
        self._authenticator = authenticator
        self._audit_log = audit_log
        self._clock = clock
        self._audited_hour = hour_start(clock.now())

    async def run(self, streams: Collection[ChangeStream]) -> None:
        """Check the streams that are open, again and again."""
        while True:
            await anyio.sleep(CREDENTIAL_SECONDS)
            by_token = defaultdict[str | None, list[ChangeStream]](list)
            for stream in streams:
                by_token[stream.client.token].append(stream)
            for token, same_token in by_token.items():
                is_valid = await self._is_valid(token)
                for stream in same_token:
                    if is_valid is False:
                        stream.end(EndReason.CREDENTIAL_ENDED)
                    else:
                        stream.hold(held=is_valid is None)
                await checkpoint()
            hour = hour_start(self._clock.now())
            if hour != self._audited_hour:
                self._audited_hour = hour
                self._audit(streams)

    def _audit(self, streams: Iterable[ChangeStream]) -> None:
        for stream in streams:
            for user in stream.cursors:
                self._audit_log.add(user, stream.client.credential, stream.client.route, AuditAction.READ)

    async def _is_valid(self, token: str | None) -> bool | None:
        """Return None if the credential cannot be checked now."""
        try:
            if token is None:
                return await self._authenticator.is_open()
            return await self._authenticator.authenticate(token) is not None
        except (StoreError, IssuerUnavailable):
            return None
