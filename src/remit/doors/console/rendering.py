"""Templates and static files of the console, and the headers that let a page do nothing but what it says.

Rules: whatever a template puts out is escaped, and what cannot be seen in it is written as its code point, without anybody having to
remember it. Long texts are cut; ``long`` is the way to see more of one, within bounds. Nothing comes from elsewhere; styles and scripts are
files of our own, never in the page.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from starlette.responses import HTMLResponse, Response

from remit.errors import NotFound
from remit.logic.evidence import visible

PAGE_BYTES_MAX = 180_000  # with its headers a page stays below 200 KB
STATIC = "/console/static/"
_TYPES = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": _POLICY,
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "x-robots-tag": "noindex",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


def page(template: str, status: int = 200, **values: Any) -> Response:
    """A page of a template. One that would be too large, because of what strangers wrote, is made with shorter texts."""
    html = _PAGES.get_template(template).render(**values)
    if len(html.encode()) > PAGE_BYTES_MAX:
        html = _LEAN_PAGES.get_template(template).render(**values)
    return HTMLResponse(html, status, HEADERS)


def static_file(name: str) -> Response:
    """A style or script of ours. Raises NotFound for any other name."""
    found = _STATIC.get(name)
    if found is None:
        raise NotFound("there is no such file")
    kind = _TYPES[name.rpartition(".")[2]]
    headers = {**HEADERS, "cache-control": "public, max-age=31536000, immutable", "content-type": f"{kind}; charset=utf-8"}
    return Response(found, 200, headers)


def _read_static() -> dict[str, bytes]:
    folder = files("remit.doors.console") / "static"
    return {one.name: one.read_bytes() for one in folder.iterdir() if one.name.rpartition(".")[2] in _TYPES}


def _address(name: str) -> str:
    """Of a static file; it changes with what is in it."""
    return f"{STATIC}{name}?v={hashlib.sha256(_STATIC[name]).hexdigest()[:12]}"


class _Texts:
    """How texts are put out. ``most``: characters of one; ``whole``: of one that was unfolded (0: none can be)."""

    def __init__(self, most: int, whole: int) -> None:
        self._most, self._whole = most, whole

    def shown(self, value: object) -> object:
        """Of whatever a template puts out: texts without anything hidden, cut."""
        if isinstance(value, Markup) or not isinstance(value, str):
            return value
        return visible(value, self._most)

    def cut(self, text: str, most: int) -> str:
        """A text for a line."""
        return visible(text, min(most, self._most))

    def long(self, text: str) -> Markup:
        """A text of which more can be seen."""
        begun = escape(visible(text, self._most))
        if len(text) <= self._most or not self._whole:
            return begun
        rest = escape(visible(text[: self._whole], self._whole * 2))
        more = f"{len(text):,} characters" + (f", the first {self._whole:,} here" if len(text) > self._whole else "")
        return Markup("{} <details><summary>all of it ({})</summary>{}</details>").format(begun, more, rest)


def in_lines(text: str, characters_max: int) -> tuple[list[str], int]:
    """A text of several lines for a template to put out line by line, and how many lines of it are left out."""
    lines = text.strip("\n").split("\n")
    shown = text.strip("\n")[:characters_max].split("\n")
    return shown, len(lines) - len(shown)


def _as_is(address: str) -> Markup:
    """An address of ours, whole: escaped, but not cut."""
    return escape(address)


def _moment(at: datetime) -> Markup:
    """A time, for people and for programs."""
    return Markup('<time datetime="{}">{}</time>').format(f"{at:%Y-%m-%dT%H:%M:%SZ}", f"{at:%Y-%m-%d %H:%M:%S}")


def _until(at: datetime, seconds: int) -> Markup:
    """A countdown: what is left now, and where it counts down to. The browser counts on, by its own ticks: its clock may be wrong."""
    minutes, left = divmod(max(seconds, 0), 60)
    text = f"{minutes // 60}:{minutes % 60:02d}:{left:02d}" if minutes >= 60 else f"{minutes}:{left:02d}"
    moment = f"{at:%Y-%m-%dT%H:%M:%SZ}"
    return Markup('<time class="left" datetime="{}" data-left="{}">{}</time>').format(moment, max(seconds, 0), text)


def _short(name: str) -> str:
    """The end of an id: enough to tell two apart on one page."""
    return name if len(name) <= 14 else f"{name.partition('_')[0]}_…{name[-6:]}" if "_" in name else f"…{name[-10:]}"


def _environment(texts: _Texts) -> Environment:
    pages = Environment(
        loader=PackageLoader("remit.doors.console", "templates"),
        autoescape=True,
        finalize=texts.shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    pages.globals.update(static=_address, until=_until)
    pages.filters.update(cut=texts.cut, long=texts.long, as_is=_as_is, moment=_moment, short=_short)
    return pages


_STATIC = _read_static()
_PAGES = _environment(_Texts(600, 4_000))
_LEAN_PAGES = _environment(_Texts(60, 0))
