"""Standard Webhooks: exactly the correctly signed requests are accepted."""

from datetime import UTC, datetime, timedelta

import pytest

from bg_ingest.api.webhook_auth import SignatureHeaders, SignatureVerifier
from tests.harness.webhook_sender import OTHER_SECRET, SECRET, signature

BODY = b'{"records": []}'
AT = "1772452800"
VALID_SIGNATURE = signature(BODY, "msg_1", AT).decode()
FOREIGN_SIGNATURE = signature(BODY, "msg_1", AT, OTHER_SECRET).decode()


def is_verified(
    signatures: str = VALID_SIGNATURE, body: bytes = BODY, webhook_id: str = "msg_1", timestamp: str = AT
) -> bool:
    headers = SignatureHeaders(webhook_id, timestamp, signatures)
    return SignatureVerifier([SECRET]).find_secret(headers, body) is not None


def test_the_reference_libraries_example_is_vouched_for() -> None:
    claim = SignatureHeaders(
        "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    )
    signatures = SignatureVerifier(["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"])
    assert signatures.find_secret(claim, b'{"test": 2432232314}')
    assert not signatures.find_secret(claim, b'{"test":2432232314}')


def test_any_secret_and_any_part_of_the_list_may_be_the_one() -> None:
    both = SignatureVerifier([OTHER_SECRET, SECRET])
    for parts in (
        VALID_SIGNATURE,
        FOREIGN_SIGNATURE,
        f"{FOREIGN_SIGNATURE} {VALID_SIGNATURE}",
        f"v1 v1,a,b v1a,abc== {VALID_SIGNATURE} v2,x",
        f"  {VALID_SIGNATURE} ",
    ):
        assert both.find_secret(SignatureHeaders("msg_1", AT, parts), BODY)
    assert not is_verified(FOREIGN_SIGNATURE)


def test_without_secrets_nothing_is_vouched_for() -> None:
    assert not SignatureVerifier([]).find_secret(SignatureHeaders("msg_1", AT, VALID_SIGNATURE), BODY)


def test_each_of_id_time_and_body_is_signed() -> None:
    assert is_verified()
    assert not is_verified(body=BODY + b" ")
    assert not is_verified(webhook_id="msg_2")
    assert not is_verified(timestamp=str(int(AT) + 1))


@pytest.mark.parametrize(
    "given",
    [
        "",
        " ",
        "v1",
        "v1,",
        "v1,a,b",
        "v1,,",
        VALID_SIGNATURE.removeprefix("v1,"),
        VALID_SIGNATURE.replace("v1,", "v1a,"),
        VALID_SIGNATURE.replace("v1,", "V1,"),
        VALID_SIGNATURE.replace("v1,", "v1, "),
        VALID_SIGNATURE.rstrip("="),
        VALID_SIGNATURE.lower(),
        VALID_SIGNATURE + "=",
        VALID_SIGNATURE + ",",
        f"{VALID_SIGNATURE},v1",
        VALID_SIGNATURE.replace(",", ",\xe9"),
        "v1,\xff\xfe",
        "\xff",
        "v1," + "ab" * 32,
    ],
)
def test_what_is_no_signature_is_no_error_either(given: str) -> None:
    assert not is_verified(given)


def test_bytes_that_are_no_text_are_verified_as_they_are() -> None:
    body, odd = b"\xff\xfe\x00", b"msg_\xff"
    signatures = signature(body, odd, AT).decode()
    assert is_verified(signatures, body, odd.decode("latin-1"))
    assert not is_verified(signatures, body, odd.decode("latin-1").replace("\xff", "\xfe"))


def test_a_secret_means_the_same_in_every_base64() -> None:
    key = b"\xfb\xff" * 13  # has + and / in base64, and padding
    standard = "whsec_+//7//v/+//7//v/+//7//v/+//7//v/+/8="
    other = standard.replace("+", "-").replace("/", "_").rstrip("=")
    assert len(key) == 26
    for secret in (standard, other):
        assert SignatureVerifier([secret]).find_secret(
            SignatureHeaders("msg_1", AT, signature(BODY, "msg_1", AT, standard).decode()), BODY
        )


@pytest.mark.parametrize(
    "timestamp",
    ["", "now", "1772452800.5", "-1", "+1772452800", " 1772452800", "1772452800\n", "1_7", "\xb2", "9" * 12],
)
def test_a_time_is_whole_seconds_and_nothing_else(timestamp: str) -> None:
    assert SignatureHeaders("msg_1", timestamp, "").sent_at is None


@pytest.mark.parametrize("timestamp", ["0", "1772452800", "99999999999"])
def test_a_time_may_be_any_that_has_a_date(timestamp: str) -> None:
    assert SignatureHeaders("msg_1", timestamp, "").sent_at == datetime(1970, 1, 1, tzinfo=UTC) + timedelta(
        seconds=int(timestamp)
    )
