import re

import httpx
import pytest

from bg_ingest.demo import LOGINS, DemoFailed, connect_all


class Service:
    """The part of a service that the guide uses: connected users, recorded requests, and refusals."""

    def __init__(self, *connected: str, refuses: str | None = None) -> None:
        self.states = dict.fromkeys(connected, "active")
        self.logins: list[str] = []
        self._refuses = refuses

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        if self._refuses and self._refuses in path:
            return httpx.Response(500)
        if path == "/login":
            self.logins.append(request.url.params["user"])
            user = request.url.params["state"]
            return httpx.Response(302, headers={"location": f"/callback?state={user}"})
        if path == "/callback":
            self.states[request.url.params["state"]] = "active"
        user = path.split("/")[3] if path.startswith("/api/users/") else ""
        if request.method == "POST":
            return httpx.Response(201, json={"authorize_url": f"http://here/login?state={user}"})
        if user and user not in self.states:
            return httpx.Response(404)
        return httpx.Response(200, json={"state": self.states.get(user), "backfill_done": 1})

    def client(self) -> httpx.Client:
        return httpx.Client(transport=httpx.MockTransport(self), base_url="http://here")


def test_every_user_logs_in_as_a_separate_person() -> None:
    service = Service()
    connect_all(service.client())
    assert service.states.keys() == LOGINS.keys()
    assert sorted(service.logins) == sorted(LOGINS.values())


def test_who_is_connected_does_not_connect_again() -> None:
    service = Service("ada", "eva")
    connect_all(service.client())
    assert service.logins == [LOGINS["ben"]]


@pytest.mark.parametrize(("refuses", "says"), [("/api/users/ben", "start to connect"), ("/callback", "connect")])
def test_a_refusal_is_reported_by_name_and_status(refuses: str, says: str) -> None:
    user = "ben" if "ben" in refuses else "ada"
    with pytest.raises(DemoFailed, match=re.compile(rf"{user} could not {says}: HTTP 500")):
        connect_all(Service(refuses=refuses).client())
