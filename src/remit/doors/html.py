"""What every page of remit shares: one style, one frame, and the headers that let a page do nothing but what it says.

Rules: no script, no picture, nothing from elsewhere, kept by nobody. Texts are escaped by whoever puts them in.
"""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #57606a; --line: #d0d7de; --paper: #fff;
  --warn: #9a3412; --yes: #1a7f37; --no: #b42318 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --soft: #9198a1; --line: #3d444d; --paper: #0d1117; --warn: #f0883e; --yes: #238636; --no: #da3633 }
}
* { box-sizing: border-box }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif }
main { max-width: 46rem; margin: 0 auto; padding: 2rem 1rem 4rem }
h1 { font-size: 1.4rem; margin: 0 0 .25rem; overflow-wrap: anywhere }
h2 { font-size: 1rem; margin: 2rem 0 .5rem; color: var(--soft) }
p { margin: .25rem 0 } .soft { color: var(--soft) } .warn { color: var(--warn) }
dl { margin: 0; border: 1px solid var(--line); border-radius: 8px }
dl > div { padding: .6rem .9rem } dl > div + div { border-top: 1px solid var(--line) }
dt { color: var(--soft); font-size: .875rem } dd { margin: 0; overflow-wrap: anywhere }
code { font: .9375rem/1.5 ui-monospace, monospace; overflow-wrap: anywhere; white-space: pre-wrap }
label { display: block; margin: 1.5rem 0 .25rem } input, select { width: 100%; padding: .6rem; font: inherit; color: inherit;
  background: transparent; border: 1px solid var(--line); border-radius: 8px }
button { margin: 1rem .75rem 0 0; padding: .6rem 1.4rem; font: inherit; font-weight: 600; color: #fff;
  border: 0; border-radius: 8px; cursor: pointer }
.answers { display: flex; flex-flow: row-reverse wrap; justify-content: flex-end }
.yes { background: var(--yes) } .no { background: var(--no) } .go { background: #0969da }
button:focus-visible, input:focus-visible { outline: 3px solid #0969da; outline-offset: 2px }
"""
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()


def headers(form_action: str = "'self'") -> dict[str, str]:
    """Headers of a page. ``form_action``: where its forms may lead, redirects included (Content Security Policy Level 3 §6.4)."""
    policy = f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action {form_action}; base-uri 'none'; frame-ancestors 'none'"
    return {
        "content-security-policy": policy,
        "cache-control": "no-store",
        "referrer-policy": "no-referrer",
        "x-content-type-options": "nosniff",
        "x-frame-options": "DENY",
        "x-robots-tag": "noindex",
    }


def from_own_page(site: str | None, origin: str | None, own: Collection[str]) -> bool:
    """Whether a form was sent by one of our own pages, by what the browser says of it (``Sec-Fetch-Site``, ``Origin``).

    Our pages tell no referrer, so of their forms browsers say the origin ``null`` (Fetch §3.2): then only the other header tells. A
    request that says neither is of no browser that could be believed.
    """
    if site not in {None, "same-origin"}:
        return False
    return origin in own or (origin in {None, "null"} and site == "same-origin")


def row(name: str, value: str) -> str:
    """A term and what it is, both as HTML."""
    return f"<div><dt>{name}</dt><dd>{value}</dd></div>"


def page(title: str, body: str) -> str:
    """A whole page of HTML parts."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{_STYLE}</style></head><body><main><h1>{title}</h1>{body}</main></body></html>"
    )
