"""From bytes to arguments: strict JSON, and the digest that binds approvals and records to them.

Rules: what two readers could understand differently is refused, never repaired: doubled keys, NaN, numbers out of
range, lone surrogates, deep nesting (I-JSON, RFC 7493). Everything is bounded before it is walked.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from typing import Any, NoReturn

import msgspec
import rfc8785

from remit.errors import Mistake
from remit.model.call import Call
from remit.model.catalog import Kind

INTEGER_MAX = 2**53 - 1  # RFC 8785 §3.2.2.3: beyond it two readers may see different numbers


def parse_json(data: bytes, *, depth_max: int = 64, bytes_max: int = 4_194_304) -> Any:
    """Parse strictly. Raises Mistake (codes ``too_large``, ``json``) with a sentence that says where."""
    if len(data) > bytes_max:
        raise Mistake(f"{len(data):,} bytes are more than the {bytes_max:,} allowed", code="too_large")
    value = _plain(data, depth_max)
    if value is not None:
        return value
    try:
        value = _DECODER.decode(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise Mistake(f"the text is not UTF-8 at byte {error.start}", code="json") from None
    except json.JSONDecodeError as error:
        raise Mistake(f"not JSON at line {error.lineno}, column {error.colno}: {error.msg}", code="json") from None
    except RecursionError:
        raise Mistake(f"nested deeper than {depth_max}", code="json") from None
    except ValueError:  # the interpreter's own bound on the digits of an integer
        raise Mistake("a number has too many digits", code="json") from None
    check_json(value, depth_max=depth_max)
    return value


def _plain(data: bytes, depth_max: int) -> Any:
    """The value of a text that is exactly what writing it anew gives, as most programs send it; ``None``: read it with care.

    Such a text hides nothing: a doubled key, NaN, half a surrogate pair, a number that another reader may see differently would all
    be lost or changed on the way, and brackets that are too few cannot nest too deep.
    """
    if data.count(b"[") + data.count(b"{") > depth_max:
        return None
    try:
        value = msgspec.json.decode(data)
        return value if msgspec.json.encode(value) == data else None
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None


def check_json(value: object, *, depth_max: int = 64) -> None:
    """Refuse what is nested too deep or holds half a surrogate pair. Raises Mistake. Iterative: depth costs no stack."""
    waiting: list[tuple[object, int]] = [(value, 1)]
    while waiting:
        item, depth = waiting.pop()
        if isinstance(item, str):
            _check_text(item)
        elif isinstance(item, dict):
            _check_depth(depth, depth_max)
            for key, member in item.items():
                _check_text(key)
                if member.__class__ not in _FLAT:
                    waiting.append((member, depth + 1))
        elif isinstance(item, list):
            _check_depth(depth, depth_max)
            waiting.extend((member, depth + 1) for member in item if member.__class__ not in _FLAT)


def digest_json(value: object) -> str:
    """``sha-256:`` + base64url(SHA-256(JCS(value))) without padding. Raises Mistake for what JCS does not carry."""
    if _is_plain(value):  # msgspec's sorted form is JCS here, at a tenth of the time
        return digest_bytes(_SORTED.encode(value))
    try:
        canonical = rfc8785.dumps(value)  # type: ignore[arg-type]  # its type is the JSON union; it checks at run time
    except rfc8785.CanonicalizationError:
        raise Mistake(
            f"a number lies outside ±{INTEGER_MAX:,} or is not finite",
            code="json",
            hint="send large numbers as strings",
        ) from None
    return digest_bytes(canonical)


def digest_bytes(data: bytes) -> str:
    """``sha-256:`` + base64url(SHA-256(data)) without padding."""
    return "sha-256:" + base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def make_call(kind: Kind, server: str, name: str, arguments: dict[str, Any]) -> Call:
    """A call with its digest. Raises Mistake."""
    return Call(kind=kind, server=server, name=name, arguments=arguments, digest=digest_json(arguments))


def resource_call(server: str, uri: str, arguments: dict[str, Any] | None = None) -> Call:
    """Reading a resource: its URI is its name and its only argument. ``arguments``: of a template, of which one is being completed."""
    return make_call(Kind.RESOURCE, server, uri, {"uri": uri, **({"arguments": arguments} if arguments else {})})


def prompt_call(server: str, name: str, arguments: dict[str, Any]) -> Call:
    """Getting a prompt. Raises Mistake."""
    return make_call(Kind.PROMPT, server, name, {"name": name, "arguments": arguments})


_FLAT = frozenset({int, float, bool, type(None)})
_SORTED = msgspec.json.Encoder(order="sorted")


def _is_plain(value: object) -> bool:
    """An object of texts, whole numbers, booleans and nulls under ASCII keys, as most arguments are."""
    return value.__class__ is dict and all(
        key.__class__ is str
        and key.isascii()
        and (
            member.__class__ is str
            or member is None
            or member.__class__ is bool
            or (member.__class__ is int and -INTEGER_MAX <= member <= INTEGER_MAX)
        )
        for key, member in value.items()
    )


def _check_text(text: str) -> None:
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            raise Mistake("a string holds half a surrogate pair", code="json") from None


def _check_depth(depth: int, depth_max: int) -> None:
    if depth > depth_max:
        raise Mistake(f"nested deeper than {depth_max}", code="json")


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise Mistake(f"the key {key[:60]!r} stands twice in one object", code="json")
            seen.add(key)
    return members


def _no_constant(text: str) -> NoReturn:
    raise Mistake(f"{text} is not a number in JSON", code="json")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise Mistake(f"the number {text[:40]} is out of range", code="json")
    return number


_DECODER = json.JSONDecoder(object_pairs_hook=_without_doubles, parse_constant=_no_constant, parse_float=_finite)
