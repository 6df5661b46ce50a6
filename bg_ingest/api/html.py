"""HTML pages for browsers, without inline scripts and without resources of other hosts."""

from base64 import b64encode
from collections.abc import Mapping
from hashlib import sha256
from html import escape

import msgspec
from litestar import MediaType, Response

_STYLE = (
    ":root{color-scheme:light dark;--fg:#16202a;--muted:#52606d;--bg:#f6f8f9;--surface:#fff;--line:#c9d2d9;"
    "--accent:#0b6150}@media(prefers-color-scheme:dark){:root{--fg:#e8eef2;--muted:#a3b1bc;--bg:#10161b;"
    "--surface:#182129;--line:#364450;--accent:#6fd3b5}}"
    "body{font:1.1rem/1.6 system-ui,sans-serif;max-width:42rem;margin:12vh auto;padding:0 1rem;color:var(--fg);"
    "background:var(--bg)}a{color:var(--accent)}:focus-visible{outline:3px solid var(--accent);outline-offset:2px}"
    "h1{font-size:1.7rem;line-height:1.25}h2{font-size:1.1rem;margin-top:2rem}code{font-size:.95em;overflow-wrap:anywhere}"
    "table{border-collapse:collapse}th,td{padding:.2rem .8rem .2rem 0;vertical-align:top;text-align:start;"
    "overflow-wrap:break-word}td:first-child code{overflow-wrap:normal}"
    "body:has(.reference){max-width:80rem;margin:2rem auto;font-size:1rem}"
    ".reference h2{font-size:1.3rem}.reference h4,caption{margin:1rem 0 .3rem;font-size:.9rem;font-weight:600;"
    "text-align:start}.reference table{width:100%}th,td{border-bottom:1px solid var(--line)}th{font-size:.9rem;"
    "color:var(--muted)}pre{overflow:auto;max-height:24rem;margin:0;padding:.75rem;background:var(--surface);"
    "border:1px solid var(--line);border-radius:.5rem}pre code{overflow-wrap:normal}"
    "article{padding:1rem 0 2rem;border-top:1px solid var(--line)}article:target h3{color:var(--accent)}"
    ".reference nav h2{margin:1rem 0 0;font-size:1rem}nav ul{margin:0;padding:0;list-style:none}"
    "nav a{display:block;padding:.15rem 0}"
    "@media(min-width:60rem){.reference{display:grid;grid-template-columns:17rem minmax(0,1fr);gap:2.5rem}"
    "th:first-child{width:13rem}"
    ".reference nav{position:sticky;top:0;max-height:100vh;overflow:auto;align-self:start;padding:0 .5rem 1rem}}"
    "@media(max-width:40rem){.reference tr,.reference td{display:block;padding-right:0}.reference th{display:none}"
    ".reference td{border:0}.reference tr{border-bottom:1px solid var(--line);padding:.3rem 0}}"
    "@media print{.reference nav{display:none}pre{max-height:none}}"
)

_OWN_STYLE = f"'sha256-{b64encode(sha256(_STYLE.encode()).digest()).decode()}'"
_RESTRICTIONS = "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

POLICY = f"default-src 'none'; style-src {_OWN_STYLE}; {_RESTRICTIONS}"
"""Content security policy of these pages: only their own inline style is permitted."""

SCRIPTED_POLICY = (
    f"default-src 'none'; style-src {_OWN_STYLE} 'self'; script-src 'self'; connect-src 'self'; {_RESTRICTIONS}; "
    "require-trusted-types-for 'script'"
)
"""Policy of a page with scripts. It loads scripts and stylesheets from its own origin only, and sends requests to this
origin only. Its scripts cannot turn strings into HTML (Trusted Types)."""


def render_document(title: str, html: str, head: str = "") -> str:
    """Return a whole page. The title is plain text; head and body are HTML with escaped values."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="robots" content="noindex">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style>{head}</head>"
        f"<body><main><h1>{escape(title)}</h1>{html}</main></body></html>"
    )


class Link(msgspec.Struct, frozen=True):
    """Link at the end of a page."""

    address: str
    text: str


def render_page(
    title: str, *texts: str, link: Link | None = None, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response[str]:
    """Return a page with a title and paragraphs of plain text."""
    html = "".join(f"<p>{escape(text)}</p>" for text in texts)
    if link:
        html += f'<p><a href="{escape(link.address)}">{escape(link.text)}</a></p>'
    return Response(
        render_document(title, html),
        status_code=status,
        media_type=MediaType.HTML,
        headers={"Cache-Control": "no-store", **(headers or {})},
    )
