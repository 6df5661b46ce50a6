"""The body of a request, as long as it may be and in the time it may take."""

from typing import Any

import anyio
from litestar import Request
from litestar.exceptions import ClientException, InternalServerException

from bg_ingest.api.errors import refusal

WITHIN = 10.0
"""Seconds for a body to arrive: senders that stop halfway would otherwise hold what waits for them."""


async def body_of(request: Request[Any, Any, Any], *, too_large: str) -> bytes:
    """Return the whole body, or refuse it: too large for its route (which says what to do), too slow, broken off."""
    try:
        with anyio.move_on_after(WITHIN):
            return await request.body()
    except ClientException as error:
        if error.status_code != 413:
            raise
        raise refusal(413, "too-large", too_large) from None
    except InternalServerException:  # Litestar's word for a sender that has gone
        raise refusal(400, "incomplete-body", "The body broke off: send it again.") from None
    raise refusal(408, "too-slow", f"The body was not here within {WITHIN:g} seconds: send it again.")
