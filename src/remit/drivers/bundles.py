"""Bundles of foreign SPIFFE trust domains (SPIFFE Trust Domain and Bundle §4): from a file, an ``https_web`` endpoint or a Workload API.

Rules: a domain's bundle vouches for that domain only, and bundles are never merged. A bundle with a lower sequence than one already
seen is refused: it may bring back a key that was withdrawn. Empty means that everything of the domain is withdrawn.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509

from remit.drivers.key_sets import PublicKey, UnknownKey, check_signature, read_keys, read_object
from remit.drivers.refreshing import Refreshing
from remit.drivers.workload_api import WorkloadApiClient
from remit.errors import Outage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Any

    from remit.drivers.fetching import Fetcher
    from remit.model.trust import DomainRule

SVID_ALGORITHMS = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512"})  # JWT-SVID §2.1
_FILE_BYTES_MAX = 1_048_576


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """The keys of one trust domain. ``authorities`` sign X.509-SVIDs."""

    jwt_keys: tuple[PublicKey, ...]
    authorities: tuple[x509.Certificate, ...]
    sequence: int
    refresh_seconds: float | None


class Domain:
    """One foreign trust domain and its bundle."""

    def __init__(self, rule: DomainRule, fetch: Callable[[], Awaitable[bytes]], clock: Callable[[], float]) -> None:
        """``fetch``: the bundle's JSON, from wherever; raises Outage. ``clock``: as of ``Refreshing``."""
        self.rule, self._fetch_data, self._sequence = rule, fetch, 0
        self._bundle = Refreshing(self._fetch, rule.endpoint.age_max.total_seconds(), clock)

    async def check_signature(self, token: str, header: dict[str, Any]) -> None:
        """Whether the domain signed a JWT-SVID. Raises Unauthenticated, Outage."""
        try:
            check_signature(token, header, (await self._bundle.current()).jwt_keys, SVID_ALGORITHMS)
        except UnknownKey:
            check_signature(token, header, (await self._bundle.newer()).jwt_keys, SVID_ALGORITHMS)

    async def bundle(self) -> Bundle:
        """What vouches for the domain now. X.509-SVIDs have to lead to its ``authorities``. Raises Outage."""
        return await self._bundle.current()

    async def _fetch(self) -> tuple[Bundle, float | None]:
        bundle = read_bundle(await self._fetch_data())
        if bundle.sequence < self._sequence:
            raise Outage("the bundle is older than one that was seen before", code="trust_fetch")
        self._sequence = bundle.sequence
        return bundle, bundle.refresh_seconds


def bundle_source(rule: DomainRule, fetcher: Fetcher) -> Callable[[], Awaitable[bytes]]:
    """How the bundle of a configured domain is had."""

    async def from_file() -> bytes:
        try:
            data = await asyncio.to_thread(_read, rule.bundle_file)
        except OSError as error:
            raise Outage(f"bundle_file cannot be read: {error.strerror}", code="trust_fetch") from None
        if len(data) > _FILE_BYTES_MAX:
            raise Outage(f"bundle_file is larger than {_FILE_BYTES_MAX:,} bytes", code="trust_fetch")
        return data

    async def from_endpoint() -> bytes:
        return (await fetcher.get(rule.bundle_url, rule.endpoint)).data

    async def from_workload_api() -> bytes:
        return await WorkloadApiClient(rule.workload_api).bundle(rule.domain)

    if rule.workload_api:
        return from_workload_api
    return from_file if rule.bundle_file else from_endpoint


def read_bundle(data: bytes) -> Bundle:
    """A bundle from its JSON. Keys of other or no use are left out (§4.2.2). Raises Outage."""
    document = read_object(data, "the bundle")
    sequence, hint = document.get("spiffe_sequence", 0), document.get("spiffe_refresh_hint")
    if not _counts(sequence) or not (hint is None or _counts(hint)):
        raise Outage("spiffe_sequence and spiffe_refresh_hint must be whole numbers", code="trust_fetch")
    jwt_keys = read_keys(document, "jwt-svid", named=True)
    return Bundle(
        jwt_keys=jwt_keys,
        authorities=read_authorities(document),
        sequence=sequence,
        refresh_seconds=None if hint is None else float(hint),
    )


def read_authorities(document: dict[str, Any]) -> tuple[x509.Certificate, ...]:
    """The certificates of a bundle that sign X.509-SVIDs."""
    found = [_authority(entry) for entry in document["keys"] if isinstance(entry, dict) and entry.get("use") == "x509-svid"]
    return tuple(one for one in found if one is not None)


def _authority(entry: dict[str, Any]) -> x509.Certificate | None:
    """The one certificate of an ``x509-svid`` entry (§4.2.2: others are ignored); ``None`` for what is none."""
    chain = entry.get("x5c")
    if not isinstance(chain, list) or not chain or not isinstance(chain[0], str):
        return None
    try:
        return x509.load_der_x509_certificate(base64.b64decode(chain[0], validate=True))
    except (binascii.Error, ValueError):
        return None


def _counts(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**64


def _read(path: str) -> bytes:
    with Path(path).open("rb") as file:
        return file.read(_FILE_BYTES_MAX + 1)
