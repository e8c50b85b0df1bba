"""Who acts: SPIFFE IDs and what a proof of identity leaves behind.

Rules: a SPIFFE ID is taken as it is written or refused, never normalised (SPIFFE-ID §2). The human or system an
agent works for is never its identity; it is a separate claim of the task.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from msgspec import Struct

from remit.errors import Mistake

_TRUST_DOMAIN = re.compile(r"[a-z0-9._-]{1,255}\Z")
_SEGMENT = re.compile(r"[A-Za-z0-9._-]+\Z")
_ID_BYTES_MAX = 2048  # SPIFFE-ID §2.3


@dataclass(frozen=True, slots=True, order=True)
class SpiffeId:
    """A workload's SPIFFE ID, ``spiffe://trust-domain/path`` with a path (a leaf ID, SPIFFE-ID §2.2)."""

    text: str

    @classmethod
    def parse(cls, text: str) -> SpiffeId:
        """Check and wrap. Raises Mistake."""
        scheme, separator, rest = text.partition("://")
        domain, slash, path = rest.partition("/")
        segments = path.split("/")
        if (
            scheme != "spiffe"
            or not separator
            or not slash
            or len(text.encode()) > _ID_BYTES_MAX
            or not _TRUST_DOMAIN.match(domain)
            or any(not _SEGMENT.match(segment) or segment in {".", ".."} for segment in segments)
        ):
            raise Mistake(
                f"{text[:80]!r} is not the SPIFFE ID of a workload",
                code="spiffe_id",
                hint="write spiffe://trust-domain/path: lower-case domain, segments of letters, digits, '.', '_', '-'",
            )
        return cls(text)

    @property
    def trust_domain(self) -> str:
        """The security boundary the ID belongs to."""
        return self.text.split("/", 3)[2]

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """An agent whose identity was proved. ``proof`` names how (``jwt-svid``, ``x509-svid``, ``oidc:ISSUER``)."""

    agent: SpiffeId
    proof: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerCertificate:
    """What the other side of a TLS connection showed: certificates in DER, the leaf first. That it holds the key is proved, no more."""

    chain: tuple[bytes, ...]


Proof = str | PeerCertificate  # a token, or a certificate


class Bearer(Struct, frozen=True, kw_only=True):
    """Who presents a live task token, or speaks through an endpoint that was opened for one task.

    ``server``: the only one that the token opens ("" : all of the grant). ``token``: the token's id ("" : none was presented).
    """

    agent: SpiffeId
    task: str
    proof: str  # "task-token" | "endpoint" | "authzen"
    server: str = ""
    token: str = ""
