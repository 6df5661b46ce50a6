"""HTML pages for persons."""

from base64 import b64encode
from hashlib import sha256

from bg_ingest.api.html import POLICY, render_document, render_page


def test_texts_are_escaped() -> None:
    page = render_page("<b>Title</b>", "a & b", "<script>", status=404, headers={"Retry-After": "5"})
    assert "<h1>&lt;b&gt;Title&lt;/b&gt;</h1><p>a &amp; b</p><p>&lt;script&gt;</p>" in page.content
    assert (page.status_code, page.headers["Retry-After"], page.headers["Cache-Control"]) == (404, "5", "no-store")


def test_the_policy_allows_the_style_of_the_page_and_nothing_else() -> None:
    document = render_document("Title", "<p>text</p>")
    style = document[document.index("<style>") + len("<style>") : document.index("</style>")]
    digest = b64encode(sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in POLICY
    assert "default-src 'none'" in POLICY
    assert "script" not in POLICY
