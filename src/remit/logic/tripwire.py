"""Finds leased secrets in what crosses the gateway: arguments, results, bodies, log lines. Pure.

Rules
* What is looked for is exactly known, so there is no guessing: a secret is found as it is, in base64 (either alphabet, at any offset),
  in hexadecimal (with or without separators), percent-encoded (also twice), as character references and escapes, split by whitespace,
  zeros (UTF-16) or characters without width, and split over the values of one message, one after the other or under keys of one name.
* Each form is computed once and costs a search in each message, so of what begins with the secret only are there: base32, base64 of
  UTF-16 (little end first), base64 of base64, hexadecimal of base64.
* Who is found is told by the name the secret was given, never by its value. No exception and no ``repr`` holds a value.
* Left out, and it cannot be otherwise: a secret that was encrypted, compressed, turned round, put into an encoding that is not named
  above, or sent in pieces over several calls. What leaves the house is decided by origins and sinks as well; the tripwire is the last
  wire, not the fence.
"""

from __future__ import annotations

import base64
import html
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

SECRET_BYTES_MIN = 8  # a shorter one stands in any text by chance
_DECODINGS_MAX = 2
_BASE64_OFFSETS = 3
_ESCAPE = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|x([0-9A-Fa-f]{2}))")
_INVISIBLE = re.compile(
    "[\\s\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff]"
)
_SPACES = b"\0 \t\n\r\x0b\x0c\x1c\x1d\x1e\x1f"  # zeros: UTF-16 that is read as bytes
_BETWEEN_DIGITS = b":,;.-_[]"
_DIGITS = bytes(range(256)).lower()
_STANDARD, _FOR_URLS = bytes.maketrans(b"-_", b"+/"), bytes.maketrans(b"+/", b"-_")
_REMOVED = "[a line that held a leased credential was removed]"


class Tripwire:
    """Looks for secrets, each known by a name (for instance the lease's id)."""

    __slots__ = ("_base64", "_low", "_plain")

    def __init__(self, secrets: Iterable[tuple[str, str]]) -> None:
        """``secrets``: name and value, each may stand with several of the other. Raises ValueError for a value that is too short."""
        self._plain: dict[bytes, set[str]] = {}
        self._base64: dict[bytes, set[str]] = {}
        self._low: dict[bytes, set[str]] = {}  # hexadecimal and base32
        for name, secret in secrets:
            plain = _squeezed(secret)
            if len(plain) < SECRET_BYTES_MIN:
                raise ValueError(f"the secret of {name} is shorter than {SECRET_BYTES_MIN} bytes")
            for data in {secret.encode("utf-8", "surrogatepass"), plain}:
                wide, low = _twice(data, secret)
                for form in (data.hex().encode(), *low):
                    self._low.setdefault(form, set()).add(name)
                for form in (*_base64_cores(data), *wide):
                    self._base64.setdefault(form, set()).add(name)
            self._plain.setdefault(plain, set()).add(name)

    def __bool__(self) -> bool:
        return bool(self._plain)

    def __repr__(self) -> str:
        return f"<Tripwire for {len(self._plain)} secrets>"

    def found(self, value: Any) -> tuple[str, ...]:
        """Names of the secrets that stand in a JSON value: in its texts and numbers, one after the other, and in its keys."""
        if not self._plain:
            return ()
        texts: list[tuple[str, str]] = []
        keys: list[str] = []
        _gather(value, texts, keys)
        names = {*self._in("".join(text for _, text in texts)), *self._in("".join(keys))}
        by_key: dict[str, list[str]] = {}
        for key, text in texts:
            by_key.setdefault(key, []).append(text)
        if len(by_key) > 1:
            for pieces in by_key.values():
                if len(pieces) > 1:
                    names |= self._in("".join(pieces))
        return tuple(sorted(names))

    def scrubbed(self, text: str) -> str:
        """A text for a log, without the lines that hold a secret; all of it where one is split over lines."""
        if not self._plain or not self._in(text):
            return text
        kept = "\n".join(_REMOVED if self._in(line) else line for line in text.split("\n"))
        return _REMOVED if self._in(kept) else kept

    def _in(self, text: str) -> set[str]:
        names: set[str] = set()
        for view in _views(text):
            digits = view.translate(_DIGITS, _BETWEEN_DIGITS).replace(b"\\x", b"")
            looks = [(self._plain, view), (self._base64, view.translate(_STANDARD)), (self._low, digits)]
            if b"0x" in digits:
                looks.append((self._low, digits.replace(b"0x", b"")))
            for forms, data in looks:
                names.update(*(bearers for form, bearers in forms.items() if form in data))
        return names


def searchable(secret: str) -> bool:
    """Whether a value is long enough to be told from chance."""
    return len(_squeezed(secret)) >= SECRET_BYTES_MIN


def _views(text: str) -> list[bytes]:
    """A text without what splits it, and what it says decoded in each way, up to twice over."""
    views = newest = [_squeezed(text)]
    for _ in range(_DECODINGS_MAX):
        newest = [view for view in dict.fromkeys(_squeezed(said) for before in newest for said in _decoded(before)) if view not in views]
        if not newest:
            break
        views = [*views, *newest]
    return views


def _decoded(data: bytes) -> Iterable[str]:
    """What a text says to whoever reads it as percent-encoded, as markup, or as a literal of a program."""
    if b"%" in data:
        yield unquote_to_bytes(data).decode("utf-8", "replace")
    if b"&" in data:
        yield html.unescape(data.decode("utf-8", "replace"))
    if b"\\u" in data or b"\\x" in data:
        yield _ESCAPE.sub(lambda match: chr(int(match.group(1) or match.group(2), 16)), data.decode("utf-8", "replace"))


def _squeezed(text: str) -> bytes:
    if not text.isascii():
        text = _INVISIBLE.sub("", text)
    return text.encode("utf-8", "surrogatepass").translate(None, _SPACES)


def _base64_cores(data: bytes) -> Iterable[bytes]:
    """What of a value's base64 does not depend on its neighbours, for each offset at which it can begin."""
    for offset in range(_BASE64_OFFSETS):
        encoded = base64.b64encode(b"\0" * offset + data)
        begin = -(-8 * offset // 6)
        end = 8 * (offset + len(data)) // 6
        yield encoded[begin:end]


def _twice(data: bytes, text: str) -> tuple[set[bytes], set[bytes]]:
    """Forms of what begins with a value: base64 of UTF-16 and of base64; then, in small letters, hexadecimal of base64 and base32."""
    inner = _begun64(data)
    within = {inner, inner.translate(_FOR_URLS)}
    wide = _begun64(text.encode("utf-16-le", "surrogatepass"))
    base32 = base64.b32encode(data)[: 8 * len(data) // 5].lower()
    return {wide, *map(_begun64, within)}, {base32, *(one.hex().encode() for one in within)}


def _begun64(data: bytes) -> bytes:
    """What does not depend on what follows."""
    return base64.b64encode(data)[: 8 * len(data) // 6]


def _gather(value: Any, texts: list[tuple[str, str]], keys: list[str]) -> None:
    """The texts of a JSON value in their order, each with the key it stands under; iterative, so that depth costs no stack."""
    waiting: list[tuple[str, Any]] = [("", value)]
    while waiting:
        key, item = waiting.pop()
        if isinstance(item, str):
            texts.append((key, item))
        elif isinstance(item, dict):
            keys.extend(str(name) for name in item)
            waiting.extend((str(name), inner) for name, inner in reversed(item.items()))
        elif isinstance(item, list | tuple):
            waiting.extend((key, inner) for inner in reversed(item))
        elif isinstance(item, int | float) and not isinstance(item, bool):
            texts.append((key, str(item)))


def tripwire(secrets: Mapping[str, Iterable[str]]) -> Tripwire:
    """A tripwire for what each lease holds, by the lease's id."""
    return Tripwire((name, value) for name, values in secrets.items() for value in values)
