"""The two web pages of the simulator: no script, nothing loaded."""

import base64
import hashlib
from collections.abc import Sequence
from html import escape

from litestar.response.base import ASGIResponse

from bg_ingest.simulator.readings import Wearer

_MAX_USERS_SHOWN = 50
_STYLE = """
:root { color-scheme: light dark; --ink: #14241c; --soft: #5b6f65; --paper: #f2f6f3; --card: #fff; --line: #d5dfd9;
  --green: #1d7a4c }
@media (prefers-color-scheme: dark) { :root { --ink: #e6efe9; --soft: #9db0a5; --paper: #101713; --card: #18221c;
  --line: #2c3a32; --green: #56c48c } }
body { margin: 0; min-height: 100vh; display: grid; place-items: center; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif }
main { box-sizing: border-box; width: min(30rem, 100vw - 2rem); margin: 1rem; padding: 2rem; background: var(--card);
  border: 1px solid var(--line); border-radius: 1rem }
h1 { margin: 0 0 .25rem; font-size: 1.35rem }
p { margin: 0 0 1.25rem; color: var(--soft) }
form { display: grid; gap: .5rem }
button { display: flex; justify-content: space-between; gap: 1rem; padding: .75rem 1rem; font: inherit; color: inherit;
  background: none; border: 1px solid var(--line); border-radius: .6rem; cursor: pointer; text-align: left }
button:hover, button:focus-visible { border-color: var(--green); outline: 2px solid var(--green); outline-offset: -1px }
button span { color: var(--soft) }
.decline { justify-content: center; margin-top: .75rem; border-color: transparent; color: var(--soft) }
"""
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()


def login_page(wearers: Sequence[Wearer], origin: str) -> ASGIResponse:
    """Return the page with the users. The form goes to the page's own address, under any prefix."""
    buttons = "\n".join(
        f'<button name="user" value="{escape(wearer.name)}"><b>{escape(wearer.name)}</b>'
        f"<span>{escape(wearer.title)}</span></button>"
        for wearer in wearers[:_MAX_USERS_SHOWN]
    )
    more = (
        f"<p>… and {len(wearers) - _MAX_USERS_SHOWN} more: add &amp;user=NAME to the address.</p>"
        if len(wearers) > _MAX_USERS_SHOWN
        else ""
    )
    return _page(
        200,
        "Simulated Dexcom",
        f"""<p>An application asks to read glucose readings. Nobody here is real: choose whose it may read.</p>
<form method="post">
{buttons}
{more}
<button class="decline" name="decline" value="yes">Decline</button>
</form>""",
        # Browsers apply this rule to the redirect after a form too, so it includes the origin of the client.
        form_action=f"'self' {origin}",
    )


def refusal_page(reason: str) -> ASGIResponse:
    return _page(400, "This login cannot go on", f"<p>{escape(reason)}</p>", form_action="'none'")


def _page(status: int, title: str, body: str, form_action: str) -> ASGIResponse:
    html = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{_STYLE}</style>
</head>
<body>
<main>
<h1>{title}</h1>
{body}
</main>
</body>
</html>
"""
    policy = f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action {form_action}"
    return ASGIResponse(
        body=html,
        status_code=status,
        media_type="text/html",
        headers={
            "content-security-policy": f"{policy}; base-uri 'none'; frame-ancestors 'none'",
            "x-content-type-options": "nosniff",
            "referrer-policy": "no-referrer",
            "cache-control": "no-store",
        },
    )
