"""Requests without a credential: the names, addresses and origins that are this machine's own."""

import pytest

from bg_ingest.domain.local_access import LocalAccess, LocalRefusal, LocalRequest, parse_request

OURS = LocalAccess(["bg-ingest", "Name.local."], proxied=False)
PROXIED = LocalAccess([], proxied=True)


def request(
    host: str = "localhost:5001", *, method: str = "GET", client: str = "127.0.0.1", **more: str
) -> LocalRequest:
    headers = (("host", host), *((name.replace("_", "-"), value) for name, value in more.items()))
    return parse_request(method, [(name.encode(), value.encode()) for name, value in headers], (client, 5001))


@pytest.mark.parametrize(
    "host",
    [
        *(
            "localhost",
            "localhost:5001",
            "LOCALHOST.",
            "localhost.:5001",
            "127.0.0.1:5001",
            "192.168.1.7",
            "[::1]:5001",
        ),
        *("bg-ingest:5001", "bg-ingest", "name.local", "NAME.LOCAL.:80"),
    ],
)
def test_f27_own_names_are_known(host: str) -> None:
    assert OURS.find_refusal(request(host)) is None


@pytest.mark.parametrize(
    "host",
    [
        *("", " ", ":5001", "evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "localhost:x"),
        *("localhost..", "bg-ingest.evil.example", "localhost@evil.example", "localhost, evil.example"),
        *("xlocalhost", "127.0.0.1:5001:80", "[localhost"),
    ],
)
def test_s16_other_names_are_not(host: str) -> None:
    assert OURS.find_refusal(request(host)) is LocalRefusal.UNKNOWN_HOST
    assert PROXIED.find_refusal(request(host)) is LocalRefusal.UNKNOWN_HOST


def test_s16_exactly_one_host_header_is_needed() -> None:
    once = ("host", "localhost")
    for hosts in ((), (once, once), (once, ("host", "evil.example")), (once, ("host", ""))):
        assert OURS.find_refusal(LocalRequest("GET", hosts, "127.0.0.1")) is LocalRefusal.UNKNOWN_HOST
    assert parse_request("GET", [(b"HOST", b"localhost")], None).values("host") == ["localhost"]


@pytest.mark.parametrize(
    "name",
    [
        "forwarded",
        "via",
        "x_forwarded_for",
        "x_forwarded_host",
        "x_forwarded_proto",
        "x_forwarded_anything",
        "x_real_ip",
    ],
)
def test_s5_a_proxy_or_tunnel_is_not_this_machine(name: str) -> None:
    for value in ("", "for=127.0.0.1", "127.0.0.1"):
        assert OURS.find_refusal(request(**{name: value})) is LocalRefusal.OTHER_MACHINE
        assert PROXIED.find_refusal(request(**{name: value})) is None


def test_s5_neither_is_the_other_end_of_a_connection_from_elsewhere() -> None:
    for client in ("127.0.0.1", "127.8.8.8", "::1", "::1%lo", "::ffff:127.0.0.1", ""):
        assert OURS.find_refusal(request(client=client)) is None, client
    for client in ("192.168.1.7", "::ffff:10.0.0.1", "fe80::1", "fe80::1%eth0", "unknown", "127.0.0.1:80", "127.1"):
        assert OURS.find_refusal(request(client=client)) is LocalRefusal.OTHER_MACHINE, client
        assert PROXIED.find_refusal(request(client=client)) is None, client


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": ""},
        {"origin": "http://localhost:3000"},
        {"origin": "http://localhost"},
        {"origin": "https://localhost:5001.evil.example"},
        {"origin": "file://localhost:5001"},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
        {"sec_fetch_site": "Cross-Site", "origin": "http://localhost:5001"},
        {"sec_fetch_site": ""},
        {"sec_fetch_site": "same-origin", "origin": "http://evil.example"},
        {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate", "sec_fetch_dest": "document"},
    ],
)
def test_s7_a_page_of_another_origin_is_refused(headers: dict[str, str]) -> None:
    for method in ("GET", "POST", "DELETE", "OPTIONS"):
        assert OURS.find_refusal(request(method=method, **headers)) is LocalRefusal.FOREIGN_ORIGIN
        assert PROXIED.find_refusal(request(method=method, **headers)) is LocalRefusal.FOREIGN_ORIGIN


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"origin": "http://localhost:5001"},
        {"origin": "https://LocalHost:5001"},
        {"sec_fetch_site": "none"},
        {"sec_fetch_site": "same-origin"},
        {"sec_fetch_site": "same-origin", "origin": "null"},
    ],
)
def test_s7_our_own_pages_and_programs_are_not(headers: dict[str, str]) -> None:
    assert OURS.find_refusal(request(method="POST", **headers)) is None


def test_s7_a_link_may_open_a_page_and_nothing_else() -> None:
    link = {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate", "sec_fetch_dest": "document"}
    assert OURS.find_refusal(request(**link), navigable=True) is None
    for change in (
        {"sec_fetch_dest": "iframe"},
        {"sec_fetch_dest": "image", "sec_fetch_mode": "no-cors"},
        {"sec_fetch_mode": "cors"},
        {"origin": "http://evil.example"},
    ):
        refusal = OURS.find_refusal(request(**link | change), navigable=True)
        assert refusal is LocalRefusal.FOREIGN_ORIGIN, change
    assert OURS.find_refusal(request(method="POST", **link), navigable=True) is LocalRefusal.FOREIGN_ORIGIN
