"""What a lease asks of an OAuth provider, whether it got no more, and whether a target is configured to ask. Pure but for files named.

Rules: a value of a scope is one value: no spaces in a scope token, no fragment in a resource. What a provider leaves out of its answer is
what was asked for (RFC 6749 §5.1), what it adds was not. So scope is always asked for, also beside authorization_details: without it a
provider gives its default (§3.3) and need not say which.
"""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from remit.drivers.targets.http import check_authorities
from remit.errors import Mistake

if TYPE_CHECKING:
    from collections.abc import Mapping

    from remit.drivers.targets.base import Scope
    from remit.model.trust import Network

GRANTS = {"client_credentials": "client_credentials", "token_exchange": "urn:ietf:params:oauth:grant-type:token-exchange"}
URL_HINT = 'token_url = "https://id.example/token"; http only on this machine, with networks that allow it'
EXCHANGE_HINT = 'subject_token_file = "/var/run/secrets/id.jwt", with grant = "token_exchange"'
_AUTHENTICATIONS = ("secret_basic", "secret_post", "private_key_jwt")
_TOKEN = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]{1,255}")  # RFC 6749 §3.3
_ENTRIES_MAX, _TEXT_MAX, _DETAILS_BYTES_MAX = 50, 1_024, 16_384
_LISTS = ("scope", "resource", "audience")
_EXAMPLE = 'scope = ["orders.read"], resource = ["https://orders.example"]'


def read_scope(scope: Scope) -> list[tuple[str, str]]:
    """Parameters of a request. Raises Mistake."""
    unknown = sorted(set(scope) - {*_LISTS, "authorization_details"})
    if unknown or not scope:
        raise _wrong(f"{unknown[0]!r} is not part of a scope" if unknown else "a scope names something")
    form: list[tuple[str, str]] = []
    for word in _LISTS:
        values = scope.get(word, [])
        if not isinstance(values, list) or len(values) > _ENTRIES_MAX or (word in scope and not values):
            raise _wrong(f"{word} is a list of 1 to {_ENTRIES_MAX} texts")
        for value in values:
            _check_value(word, value)
        if word == "scope" and values:
            form.append(("scope", " ".join(dict.fromkeys(values))))
        elif word != "scope":
            form += [(word, value) for value in values]
    if "scope" not in scope:
        hint = f"scope.scope of the lease, also beside authorization_details: {_EXAMPLE}"
        raise Mistake("a scope names scope: without it a provider may give its default, and not say so", code="lease_scope", hint=hint)
    if "authorization_details" in scope:
        form.append(("authorization_details", _details(scope["authorization_details"])))
    return form


def no_more(told: Mapping[str, Any], scope: Scope) -> bool:
    """Whether an answer gives nothing that was not asked for. A refresh token never was."""
    given = told.get("scope", " ".join(scope.get("scope", [])))
    if not isinstance(given, str) or not set(given.split()) <= set(scope.get("scope", [])):
        return False
    details, asked = told.get("authorization_details"), scope.get("authorization_details", [])
    if details is not None and (not isinstance(details, list) or any(one not in asked for one in details)):
        return False
    return told.get("refresh_token") is None


def read_networks(text: str) -> tuple[Network, ...]:
    """Raises ValueError."""
    return tuple(ipaddress.ip_network(one.strip()) for one in text.split(",") if one.strip())


def check_settings(values: Mapping[str, Any]) -> None:
    """Addresses, how remit proves itself, and what it shows. Raises Mistake."""
    try:
        networks = read_networks(values["networks"])
    except ValueError:
        raise Mistake("networks is no list of networks", code="target", hint='networks = "10.1.0.0/16, 127.0.0.1/32"') from None
    for key in ("token_url", "revocation_url", "introspection_url"):
        if (values[key] or key != "introspection_url") and not _is_address(values[key], networks):
            raise Mistake(f"{key} is no https address", code="target", hint=URL_HINT)
    if not values["client_id"] or not values["client_id"].isprintable():
        raise Mistake("client_id names nobody", code="target", hint='client_id = "remit"')
    if values["authentication"] not in _AUTHENTICATIONS:
        raise Mistake("authentication is not known", code="target", hint=f"one of: {', '.join(_AUTHENTICATIONS)}")
    if values["grant"] not in GRANTS:
        raise Mistake("grant is not known", code="target", hint=f"one of: {', '.join(GRANTS)}")
    file = values["subject_token_file"]
    if (values["grant"] == "token_exchange") != bool(file) or (file and not Path(file).is_absolute()):
        raise Mistake("token_exchange, and nothing else, has an absolute subject_token_file", code="target", hint=EXCHANGE_HINT)
    check_authorities(values["ca_file"])


def _is_address(text: str, networks: tuple[Network, ...]) -> bool:
    try:
        known = urlsplit(text)
        good = known.hostname and known.port != 0 and "@" not in known.netloc and not known.fragment and text.isascii()
    except ValueError:
        return False
    if not good or not text.isprintable() or " " in text:
        return False
    if known.scheme == "https":
        return True
    try:
        here = ipaddress.ip_address(known.hostname or "")
    except ValueError:
        return False
    return known.scheme == "http" and here.is_loopback and any(here in network for network in networks)


def _check_value(word: str, value: object) -> None:
    if not isinstance(value, str) or not 0 < len(value) <= _TEXT_MAX or not value.isprintable():
        raise _wrong(f"{word} has texts of 1 to {_TEXT_MAX} characters")
    if word == "scope" and not _TOKEN.fullmatch(value):
        raise _wrong("a scope is one word, without spaces, quotes and \\: list several")
    if word == "resource":
        try:
            known = urlsplit(value)
            absolute = bool(known.scheme and (known.netloc or known.path)) and "#" not in value and " " not in value
        except ValueError:
            absolute = False
        if not absolute:
            raise _wrong("a resource is an absolute URI without a fragment")


def _details(value: object) -> str:
    if not isinstance(value, list) or not 0 < len(value) <= _ENTRIES_MAX:
        raise _wrong(f"authorization_details is a list of 1 to {_ENTRIES_MAX} tables")
    if not all(isinstance(one, dict) and isinstance(one.get("type"), str) and one["type"] for one in value):
        raise _wrong("each of authorization_details has a type")
    try:
        text = msgspec.json.encode(value)
    except (TypeError, ValueError, RecursionError):
        raise _wrong("authorization_details has what JSON has not") from None
    if len(text) > _DETAILS_BYTES_MAX:
        raise _wrong(f"authorization_details has at most {_DETAILS_BYTES_MAX} bytes")
    return text.decode()


def _wrong(what: str) -> Mistake:
    return Mistake(what, code="lease_scope", hint=_EXAMPLE)
