"""Values as they are compared: one normal form, and the tokens that stand in a text. Pure.

Rules
* A value is compared whole and exactly, after canonical composition (NFC). Letters that only look alike, invisible characters
  and other encodings make another value: what is sent must be what was seen. Only addresses and hosts are compared without case.
* A number is compared by its value: 5, "5" and 5.0 are one. Truth values and nulls carry nothing that could be traced.
* Of a text, tokens are taken: URLs, addresses, hosts, paths, account numbers, identifiers, amounts. Plain words are none.
* Everything is bounded; what lies beyond a bound is not seen, and what was not seen is unknown.
"""

from __future__ import annotations

import re
import unicodedata
from decimal import Decimal, InvalidOperation
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

WHOLE_CHARACTERS_MAX = 1_024  # of a text that is compared whole
_LINE_CHARACTERS_MAX = 160
_PIECE_CHARACTERS = 8_192
_DEPTH_MAX = 64
_DIGITS_MAX = 30
_NUMBER = re.compile(r"-?(?:0|[1-9]\d{0,29})(?:\.\d{1,20})?\Z", re.ASCII)
_CASELESS = re.compile(r"(?:[^\s@]{1,64}@)?(?:[a-z0-9](?:[a-z0-9-]{0,62})\.){1,8}[a-z]{2,24}\Z", re.IGNORECASE)
_URL = r"""(?P<url>[A-Za-z][A-Za-z0-9+.-]{1,20}+://[^\s<>"'`|\\^{}]{1,2000})"""
_ADDRESS = r"""(?P<address>[\w.+-]{1,64}+@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8})"""
_IBAN = r"""(?P<iban>\b[A-Z]{2}\d{2}(?:\x20?[A-Z0-9]{4}){2,7}(?:\x20?[A-Z0-9]{1,3})?\b)"""
_HOST = r"""(?P<host>\b(?:[\w-]{1,63}+\.){1,8}[^\W\d_]{2,24}\b(?!/[\w.@+/\\-]))"""
_PATH = r"""(?P<path>(?:[A-Za-z]:)?(?:[~.\w@+-]{0,128}+[/\\])[\w.@+/\\-]{1,1024})"""
_AMOUNT = r"""(?P<amount>[-+]?\d{1,3}(?:[,'\u2019]\d{3}){1,9}(?:\.\d{1,20})?|[-+]?\d{1,30}(?:[.,]\d{1,20})?(?![\w-]))"""
_IDENTIFIER = r"""(?P<identifier>[#@]?[A-Za-z0-9_][\w-]{0,126}\w)"""
_TRAILED = frozenset({"url", "path", "host"})
_LEADS = re.compile(r"[.@]|://|[A-Z]{2}\d{2}")  # one of these is in every reference
_DOTS = dict.fromkeys(map(ord, "\u3002\uff0e\uff61"), ".")  # as good as a dot in a host (UTS #46 §2.3)
_BEGINS_WITH_HOST = re.compile(r"[^/\\]*[\w-]\.[^\W\d_]{2,24}(?:[/\\]|\Z)")  # however many labels it has
_LEADING = frozenset({"url", "address", "iban", "host"})
_TRAILING = ".,;:!?)]}>'\"*"
_NUMBER_BEGINS = frozenset("-0123456789")
_SEPARATOR = re.compile(r"[\s,;|]")
_BETWEEN = re.compile(r"[\s,;|]*\Z")


def normal(value: object) -> str:
    """A leaf in the form in which it is compared; "" for what is not compared (nulls, truth values, empty and very long texts)."""
    if isinstance(value, bool) or value is None:
        return ""
    if isinstance(value, str):
        return _normal_text(value) if len(value) <= WHOLE_CHARACTERS_MAX else ""
    if isinstance(value, int):
        return f"n:{value}" if -(10**_DIGITS_MAX) < value < 10**_DIGITS_MAX else ""
    if isinstance(value, float):
        return _number(repr(value)) if value == value and abs(value) < 10.0**_DIGITS_MAX else ""  # noqa: PLR0124 - NaN is the one that is not itself
    return ""


@cache
def _pattern(*, scheme: bool, at: bool, slash: bool) -> re.Pattern[str]:
    """What tokens look like in a text with these characters. No part goes back over what it has read, so each costs at most its bound."""
    parts = (_URL if scheme else "", _ADDRESS if at else "", _IBAN, _HOST, _PATH if slash else "", _AMOUNT, _IDENTIFIER)
    return re.compile("|".join(part for part in parts if part))


def _matches(text: str) -> Iterator[re.Match[str]]:
    slash = "/" in text
    return _pattern(scheme=slash and "://" in text, at="@" in text, slash=slash or "\\" in text).finditer(text)


def tokens(text: str) -> Iterator[str]:
    """The normal forms of what stands in a text and could be meant by somebody: tokens, and short lines whole. May repeat."""
    for piece, first, last in _pieces(text):
        for begin, end, found in _spans(piece):
            if first <= begin and end <= last:  # a token that was cut is another value
                yield from found
    for line in text.splitlines():
        stripped = line.strip(" \t-*•")
        if 0 < len(stripped) <= _LINE_CHARACTERS_MAX and len(stripped) != len(text):
            yield normal(stripped)


def place_of(value: object, text: str) -> tuple[int, int] | None:
    """Where the first token that is this value stands in a text, however it is written there (``4,000`` for 4000): begin and end."""
    sought, at = normal(value), 0
    for piece, first, last in _pieces(text):
        for match in _matches(piece):
            after, forms = _token(match)
            if sought and forms[:1] == (sought,) and first <= match.start() and match.end() <= last:
                return at + match.start(), at + after
        at += len(piece)
    return None


def parts(text: str) -> tuple[str, ...]:
    """The tokens that a text is made of, where there is nothing but separators between them; else none."""
    if len(text) > WHOLE_CHARACTERS_MAX or not _SEPARATOR.search(text):
        return ()
    found: list[str] = []
    end = 0
    for match in _matches(text):
        after, forms = _token(match)
        if not forms or not _BETWEEN.match(text[end : match.start()]):
            return ()
        found.append(forms[0])
        end = after
    return tuple(found) if len(found) > 1 and _BETWEEN.match(text[end:]) else ()


def references(text: str) -> Iterator[str]:
    """The normal forms of what stands in a text and leads somewhere: URLs, hosts (with a path or without), addresses, accounts."""
    text = text if text.isascii() else text.translate(_DOTS)
    if not _LEADS.search(text):
        return
    for match in _matches(text):
        kind, after_colon = (
            match.lastgroup or "",
            text[max(match.start() - 1, 0) : match.start()] == ":",
        )  # of a scheme, however it is written
        if kind in _LEADING or (kind == "path" and (after_colon or _BEGINS_WITH_HOST.match(match.group()))):
            yield _token(match)[1][0]


def stands_in(value: str, text: str) -> bool:
    """Whether a normal form stands in a composed text as a word of its own, or several: not as a part of a word, path, address or
    name, which is another value (the folder above a file, the name before an address).
    """
    if not any(map(str.isalnum, value)):
        return False
    begin = text.find(value)
    while begin >= 0:
        end = begin + len(value)
        before, after = text[max(begin - 2, 0) : begin][::-1], text[end : end + 2]
        ends_sentence = after[:1] == "." and after[1:].isupper() and value[-1].islower()  # and no space after it
        if not _goes_on(before, value[0]) and (ends_sentence or not _goes_on(after, value[-1])):
            return True
        begin = text.find(value, begin + 1)
    return False


def leaves(value: Any, limit: int) -> Iterator[tuple[str, Any]]:
    """Every leaf with its JSON pointer (RFC 6901), depth first. Raises ValueError beyond the limit or too deep."""
    stack: list[tuple[str, Any, int]] = [("", value, 0)]
    count = 0
    while stack:
        pointer, item, depth = stack.pop()
        if isinstance(item, dict | list):
            if depth >= _DEPTH_MAX or len(stack) + len(item) > limit:
                raise ValueError("too many parts")
            members = item.items() if isinstance(item, dict) else enumerate(item)
            inner = [(f"{pointer}/{escaped(str(key))}", member, depth + 1) for key, member in members]
            stack.extend(reversed(inner))
            continue
        count += 1
        if count > limit:
            raise ValueError("too many parts")
        yield pointer, item


def escaped(key: str) -> str:
    """A key as a segment of a JSON pointer."""
    return key.replace("~", "~0").replace("/", "~1") if "~" in key or "/" in key else key


def composed(text: str) -> str:
    """A text in canonical composition."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def _normal_text(text: str) -> str:
    text = composed(text)
    if text[:1] in _NUMBER_BEGINS and _NUMBER.match(text):
        return _number(text)
    return text.lower() if "." in text and text.isascii() and _CASELESS.match(text) else text


def _number(text: str) -> str:
    try:
        value = Decimal(text)
    except InvalidOperation:
        return ""
    if not value.is_finite() or abs(value.adjusted()) > _DIGITS_MAX:
        return ""
    if value == value.to_integral_value():
        return f"n:{int(value)}"
    return f"n:{value.normalize():f}"


def _pieces(text: str) -> Iterator[tuple[str, int, int]]:
    """A text in pieces that do not hold others up, and from where to where in each the tokens are whole. Cut at white space where
    there is any; else what stands between the cut and the next separator counts for nothing.
    """
    begin, clean = 0, True
    while begin < len(text):
        end, ends = len(text), True
        if end - begin > _PIECE_CHARACTERS:
            end = begin + _PIECE_CHARACTERS
            space = max(text.rfind("\n", begin, end), text.rfind(" ", begin, end))
            end, ends = (space, True) if space > begin else (end, False)
        piece = text[begin:end]
        parted = [match.start() for match in _SEPARATOR.finditer(piece)] if not (clean and ends) else []
        first, last = (parted[0], parted[-1]) if parted else (len(piece), 0)
        yield piece, 0 if clean else first, len(piece) if ends else last
        begin, clean = end, ends


def _spans(text: str) -> Iterator[tuple[int, int, tuple[str, ...]]]:
    """Where each token was found, and its normal forms; the first one is the token itself."""
    for match in _matches(text):
        forms = _token(match)[1]
        if forms:
            yield match.start(), match.end(), forms


def _token(match: re.Match[str]) -> tuple[int, tuple[str, ...]]:
    """Where a token ends, and its normal forms; none for a plain word."""
    kind, raw = match.lastgroup or "", match.group()
    token = raw.rstrip(_TRAILING) if kind in _TRAILED else raw
    return match.start() + len(token), _FORMS.get(kind, _plain)(token)


def _plain(token: str) -> tuple[str, ...]:
    return (_normal_text(composed(token)),)


def _url(token: str) -> tuple[str, ...]:
    host = token.split("://", 1)[1].split("/", 1)[0].rsplit("@", 1)[-1]
    return (_normal_text(token), _normal_text(host)) if host else (_normal_text(token),)


def _address(token: str) -> tuple[str, ...]:
    return (_normal_text(token), _normal_text(token.rsplit("@", 1)[1]))


def _iban(token: str) -> tuple[str, ...]:
    return (_normal_text(token), token.replace(" ", ""))


def _amount(token: str) -> tuple[str, ...]:
    if token.isascii() and token.isdigit():
        return (f"n:{int(token)}",)
    plain = re.sub(r"[,'\u2019](?=\d{3}(?:\D|$))", "", token.lstrip("+"))
    number = _number(plain.replace(",", ".")) if plain.count(",") + plain.count(".") <= 1 else ""
    return (number,) if number else ()


def _identifier(token: str) -> tuple[str, ...]:
    """A word with a digit, an underscore or a mark before it; plain words are no identifiers."""
    bare = token.lstrip("#@")
    marked = bare != token
    if not marked and not any(sign.isdigit() or sign == "_" for sign in token):
        return ()
    return (_normal_text(token), _normal_text(bare)) if marked else (_normal_text(token),)


_FORMS = {"url": _url, "address": _address, "iban": _iban, "amount": _amount, "identifier": _identifier}


def _goes_on(beyond: str, edge: str) -> bool:
    """Whether a value at whose edge such characters stand, nearest first, is only a part of something."""
    near, far = beyond[:1], beyond[1:]
    if near in _JOINING:
        return True
    if near in _PUNCTUATION:
        return far.isalnum() or far in {"/", "\\", "_"}
    return (near.isalnum() or near == "_") and (edge.isalnum() or edge == "_")


_JOINING = frozenset("/\\@~")
_PUNCTUATION = frozenset(".-+")  # join only what stands close on their other side as well
