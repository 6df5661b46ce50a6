"""HTML pages for browsers, without scripts and without resources of other hosts."""

from base64 import b64encode
from collections.abc import Mapping
from hashlib import sha256
from html import escape

import msgspec
from litestar import MediaType, Response

_STYLE = (
    "body{font:1.1rem/1.6 system-ui,sans-serif;max-width:42rem;margin:12vh auto;padding:0 1.5rem;"
    "color:#16202a;background:#f6f8f9}a{color:#0b6150}h1{font-size:1.7rem;line-height:1.25}"
    "h2{font-size:1.1rem;margin-top:2rem}"
    "code{font-size:.95em;overflow-wrap:anywhere}table{border-collapse:collapse}td{padding:.2rem .8rem .2rem 0;"
    "vertical-align:top}@media(prefers-color-scheme:dark){body{color:#e8eef2;background:#10161b}a{color:#6fd3b5}}"
)

POLICY = (
    f"default-src 'none'; style-src 'sha256-{b64encode(sha256(_STYLE.encode()).digest()).decode()}'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Content security policy of these pages: only their own inline style is permitted."""


def render_document(title: str, html: str) -> str:
    """Return a whole page. The title is plain text; the body is HTML with escaped values."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="robots" content="noindex">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>"
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
