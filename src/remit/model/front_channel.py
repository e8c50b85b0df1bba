"""Nouns of the front channel: clients that a person drives, who signs in, and what is asked for in a browser.

Rules: a client proves nothing here; what it may do is what the person who signed in consents to, as the agent it was declared to be.
A client that nobody declared is nobody.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from remit.model.trust import Endpoint

if TYPE_CHECKING:
    from collections.abc import Mapping


class Known(StrEnum):
    """How a client is known: written down, by the document at its address (CIMD), or as it registered itself (RFC 7591)."""

    DECLARED = "declared"
    DOCUMENT = "document"
    REGISTERED = "registered"


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicClient:
    """A client of people. ``name``: as it calls itself, which nobody has checked. ``agent``: the declared agent it acts as.

    ``must_push``: its requests count only as pushed ones (RFC 9126 §6).
    """

    id: str
    name: str
    redirect_uris: tuple[str, ...]
    known: Known
    agent: str
    must_push: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientRule:
    """``[sign_in.clients.NAME]``: which clients act as ``agent``.

    ``documents``: addresses of client metadata documents; ``redirect_uris``: of a client whose id is NAME; ``registered``: any that
    registers itself. ``must_push``: their requests count only as pushed ones.
    """

    name: str
    agent: str
    documents: tuple[str, ...] = ()
    redirect_uris: tuple[str, ...] = ()
    registered: bool = False
    must_push: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SignIn:
    """``[sign_in]``: the OIDC provider at which people sign in. ``claim``: what names a person here; ``people``: who may consent.

    ``audiences``: other clients of the provider, whose ID tokens prove for whom an agent works. ``must_push``: as of
    a client, for all of them.
    """

    issuer: str
    client_id: str
    secret: str = field(repr=False)
    claim: str
    people: tuple[str, ...]
    clients: Mapping[str, ClientRule]
    audiences: tuple[str, ...] = ()
    algorithms: frozenset[str] = frozenset({"RS256", "ES256"})
    jwks_uri: str = ""
    endpoint: Endpoint = field(default_factory=Endpoint)
    must_push: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """An authorization request (RFC 6749 §4.1.1) of a client that is known: nothing of it is trusted but that it is well formed.

    ``challenge``: of PKCE, S256. ``server``: the resource it names ("" : the gateway). ``task_type``, ``inputs``: as far as it says.
    ``key``: the DPoP key that alone may redeem the code ("" : any; RFC 9449 §10).
    """

    client: str
    redirect_uri: str
    state: str
    challenge: str
    server: str = ""
    task_type: str = ""
    inputs: Mapping[str, Any] = field(default_factory=dict)
    key: str = ""
