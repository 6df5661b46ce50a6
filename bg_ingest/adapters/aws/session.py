"""The AWS session of this process. No other session is created; a test checks this."""

from functools import cache

import aioboto3
from aiobotocore.config import AioConfig
from botocore.exceptions import BotoCoreError, ClientError

START_CONFIG = AioConfig(connect_timeout=1, read_timeout=3, retries={"mode": "standard", "total_max_attempts": 2})
"""Configuration of clients that are called once, at start. Time-outs in seconds; an outage is reported after 6 s."""

AWS_ERRORS = (BotoCoreError, ClientError, ValueError)
"""Errors of a client and of opening one. ValueError: AWS_ENDPOINT_URL or AWS_REGION has no valid form."""


@cache
def get_session() -> aioboto3.Session:
    """Return the session of this process; it is created at the first call.

    DynamoDB, KMS, Secrets Manager and table administration share it. It finds credentials, region and endpoints by
    AWS's own rules and keeps credentials and service models. It is bound to no event loop, because the secret of
    SECRET_NAME is read in a loop of its own: while the settings load, before anything is wired.
    """
    return aioboto3.Session()


def error_code(error: Exception) -> str:
    """Return AWS's code of an error, or the name of its class. Neither quotes the request or the response."""
    return str(error.response["Error"]["Code"]) if isinstance(error, ClientError) else type(error).__name__
