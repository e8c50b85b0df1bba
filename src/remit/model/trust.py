"""Whom we believe about identities beside our own trust domain: OIDC issuers and foreign SPIFFE trust domains.

Rules: nothing matches by default. An issuer speaks only for the IDs that its mappings make, a trust domain only for its own. What is
proved is an identity and no more: only a declared agent gets a task.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

Network = IPv4Network | IPv6Network
Scalar = str | int | bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One piece of a template's path: a segment as it stands, or the value of a claim that fills ``segments`` of them."""

    text: str = ""
    claim: str = ""
    segments: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityRule:
    """Tokens with the ``required`` claims (each equal to one of its values) are the workload that ``parts`` make."""

    required: tuple[tuple[str, frozenset[tuple[type, Scalar]]], ...]
    trust_domain: str
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """How a document of theirs is fetched. ``networks``: addresses that are reached although they are not public; ``ca_file``:
    authorities in place of the public ones ("" : those); ``age_max``: how old what was fetched may be before nothing is believed any more.
    """

    networks: tuple[Network, ...] = ()
    ca_file: str = ""
    age_max: timedelta = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuerRule:
    """An OIDC issuer. ``jwks_uri``: where its keys are ("" : discovery says, at the issuer's own origin)."""

    name: str
    issuer: str
    audience: str
    identities: tuple[IdentityRule, ...]
    algorithms: frozenset[str] = frozenset({"RS256", "ES256"})
    jwks_uri: str = ""
    lifetime_max: timedelta = timedelta(hours=1)
    endpoint: Endpoint = field(default_factory=Endpoint)


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainRule:
    """A foreign SPIFFE trust domain. Its bundle is in a file, at an ``https_web`` endpoint (SPIFFE Federation §5.1) or in what a Workload
    API tells us (``unix:///path``).
    """

    domain: str
    bundle_file: str = ""
    bundle_url: str = ""
    workload_api: str = ""
    endpoint: Endpoint = field(default_factory=Endpoint)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustRules:
    """All of them: issuers by their URL, domains by their name."""

    issuers: Mapping[str, IssuerRule] = field(default_factory=dict)
    domains: Mapping[str, DomainRule] = field(default_factory=dict)
