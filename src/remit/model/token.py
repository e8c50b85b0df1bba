"""Nouns of the token service: who asks, what is asked for, what binds a token to its holder.

Rules: nothing here is believed because it is written; ``services/clients.py`` proves, ``services/exchange.py`` decides what
belongs together. A binding is a thumbprint of a public key or of a certificate: it is no secret.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from remit.model.identity import PeerCertificate

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from remit.model.identity import Bearer, SpiffeId, Workload


class Bound(StrEnum):
    """What a task token must be bound to: nothing, a DPoP key (RFC 9449), a client certificate (RFC 8705), or either of them."""

    NONE = "none"
    DPOP = "dpop"
    MTLS = "mtls"
    EITHER = "either"


@dataclass(frozen=True, slots=True, kw_only=True)
class Possession:
    """What a request proved to hold: a DPoP key by its thumbprint (RFC 7638), a TLS certificate by its (RFC 8705 §3.1)."""

    key: str = ""
    certificate: str = ""


NOTHING = Possession()


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """What came with a request, unproved. ``scheme`` in lower case; ``proof``: the DPoP header; ``url``: where it was sent, by our
    own name; ``certificate``: thumbprint of the peer's TLS certificate, which the handshake has proved.
    """

    token: str = field(default="", repr=False)
    scheme: str = "bearer"
    proof: str = field(default="", repr=False)
    method: str = "POST"
    url: str = ""
    certificate: str = ""


Presented = str | PeerCertificate | Credential
"""What a request says of whoever sends it: a bearer token, a certificate, or a token with what it may be bound to."""


class TaskToken(Struct, frozen=True, kw_only=True):
    """A task token whose signature held. ``bound``: what its holder must prove."""

    bearer: Bearer
    expires_at: datetime
    bound: Possession = NOTHING


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """An agent that proved itself at the token service. ``name``: as declared. ``method``: how (``private_key_jwt``, ``jwt-svid`` …)."""

    name: str
    workload: Workload

    @property
    def agent(self) -> SpiffeId:
        """Its SPIFFE ID."""
        return self.workload.agent


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """On whose behalf a task runs, proved by a token of an issuer for people. ``name``: as policies know them."""

    name: str
    proof: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskWanted:
    """The task that a token is asked for: one that lives (``task``), or a new one of ``task_type`` with ``inputs``.

    ``on_behalf_of``: claimed, not proved. ``agent``: another agent, to which part of a task is delegated.
    ``manifest``: what the agent is made of, digests by part.
    """

    task: str = ""
    task_type: str = ""
    inputs: Mapping[str, Any] = field(default_factory=dict)
    on_behalf_of: str = ""
    agent: str = ""
    manifest: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRequest:
    """A request to the token endpoint, read but not believed. Absent is empty."""

    grant_type: str
    client_id: str = ""
    client_assertion: str = field(default="", repr=False)
    client_assertion_type: str = ""
    assertion: str = field(default="", repr=False)
    subject_token: str = field(default="", repr=False)
    subject_token_type: str = ""
    actor_token: str = field(default="", repr=False)
    actor_token_type: str = ""
    requested_token_type: str = ""
    resources: tuple[str, ...] = ()
    scope: str = ""
    authorization_details: str = ""
    code: str = field(default="", repr=False)
    code_verifier: str = field(default="", repr=False)
    redirect_uri: str = ""
    refresh_token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenAnswer:
    """A token given. ``token_type``: ``Bearer`` or ``DPoP``; ``details``: what was granted (RFC 9396 §7)."""

    access_token: str = field(repr=False)
    token_type: str
    expires_in: int
    task: str
    details: tuple[Mapping[str, Any], ...]
    scope: str = ""
    refresh_token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRules:
    """What ``[tokens]`` says.

    ``endpoint_audience``: a client assertion may also be addressed to the token endpoint (common before rfc7523bis). ``mission``:
    tokens carry a ``mission`` claim and its status is served. ``status_list``: they carry a ``status`` claim and lists of it are served.
    ``rotate_days``: age at which the signing key is replaced, 0: never.
    """

    bound: Bound = Bound.NONE
    endpoint_audience: bool = False
    mission: bool = False
    status_list: bool = False
    rotate_days: int = 0
