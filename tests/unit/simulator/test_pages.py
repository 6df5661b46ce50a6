"""Login page: users, no script."""

import re

from tests.harness.simulator_visitor import answer_of
from tests.unit.simulator.conftest import Visit


async def test_the_page_offers_every_user_and_runs_no_script(visit: Visit) -> None:
    page = await visit().login()
    assert page.status_code == 200
    offered = re.findall(r'name="user" value="(\w+)"', page.text)
    assert offered == [f"SandboxUser{number}" for number in range(1, 8)]
    assert "<script" not in page.text
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "form-action 'self' https://app.test;" in policy, "browsers hold the redirect to this as well"


async def test_only_the_first_users_are_listed_and_all_can_log_in(visit: Visit) -> None:
    visitor = visit(users=500)
    page = await visitor.login()
    assert page.text.count('name="user"') == 50
    assert "450 more" in page.text
    assert "code" in answer_of(await visitor.login(user="SandboxUser499"))
