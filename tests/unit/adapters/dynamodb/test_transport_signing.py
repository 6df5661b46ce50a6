"""Signatures are those of the AWS library, which signs requests of any service."""

from datetime import UTC, datetime, timedelta

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from yarl import URL

from bg_ingest.adapters.dynamodb.transport import CONTENT_TYPE, AwsKeys, Signer

AT = datetime(2026, 3, 2, 23, 59, 59, tzinfo=UTC)
KEPT, OF_A_ROLE = AwsKeys("AKIDEXAMPLE", "secret+/=", None), AwsKeys("ASIAEXAMPLE", "other", "token//==")
TARGET = "DynamoDB_20120810.GetItem"


def by_botocore(
    monkeypatch: pytest.MonkeyPatch, url: str, credentials: AwsKeys, body: bytes, at: datetime
) -> dict[str, str]:
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda: at.replace(tzinfo=None))
    request = AWSRequest("POST", url, {"Content-Type": CONTENT_TYPE, "X-Amz-Target": TARGET}, body)
    SigV4Auth(credentials, "dynamodb", "eu-central-1").add_auth(request)
    return {name.lower(): str(value) for name, value in request.headers.items()}


@pytest.mark.parametrize("credentials", [KEPT, OF_A_ROLE])
@pytest.mark.parametrize(
    "url",
    [
        "https://dynamodb.eu-central-1.amazonaws.com",
        "http://127.0.0.1:8000",
        "http://[::1]:8000/",
        "https://example.org:443/",
    ],
)
def test_a_signature_is_the_one_that_botocore_makes(
    monkeypatch: pytest.MonkeyPatch, url: str, credentials: AwsKeys
) -> None:
    signer = Signer(URL(url), "eu-central-1")
    for body, at in ((b"{}", AT), ('{"TableName":"é"}'.encode(), AT + timedelta(seconds=2)), (b"", AT)):
        theirs = by_botocore(monkeypatch, url, credentials, body, at)
        ours = signer.headers(credentials, TARGET, body, at)
        assert {name: ours[name] for name in theirs} == theirs


def test_renewed_credentials_sign_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    signer = Signer(URL("https://example.org"), "eu-central-1")
    for credentials in (KEPT, OF_A_ROLE, KEPT):
        theirs = by_botocore(monkeypatch, "https://example.org", credentials, b"{}", AT)
        assert signer.headers(credentials, TARGET, b"{}", AT)["authorization"] == theirs["authorization"]
