"""Keys of transmitters: fixed ones, or fetched, kept for minutes, fetched again when a token names one that is not there.

Rules: metadata counts only where it names the issuer that was asked for (SSF 1.0 §7.2.3). Fetches are one at a time, backed off after a
failure, and not more often than every half minute for unknown keys. Kept keys serve through an outage of the transmitter, for a day; then
nothing of it is believed until it answers again.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from remit.drivers.event_tokens import UnknownKey, open_event_token, read_key_set
from remit.errors import Mistake, Outage
from remit.logic.arguments import parse_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from remit.drivers.outward import Reaches
    from remit.model.signal import TransmitterRule

_LOG = logging.getLogger("remit")
_FRESH_SECONDS, _STALE_SECONDS, _AGAIN_SECONDS = 600.0, 86_400.0, 30.0
_FIRST_WAIT_SECONDS, _WAIT_SECONDS_MAX = 2.0, 300.0
_METADATA_BYTES_MAX, _KEYS_BYTES_MAX = 65_536, 262_144
_OK = 200
WELL_KNOWN = "/.well-known/ssf-configuration"


class TransmitterKeys:
    """Keys of one transmitter."""

    def __init__(self, rule: TransmitterRule, reach: Reaches, clock: Callable[[], datetime]) -> None:
        self._rule, self._reach, self._clock = rule, reach, clock
        self._keys: Mapping[str, Any] | None = rule.keys
        self._fetched_at = self._tried_at = 0.0
        self._wait_seconds = 0.0
        self._turn = asyncio.Lock()

    async def open(self, token: bytes, *, bytes_max: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """Header and claims of a token that the transmitter signed. Raises Mistake (codes of RFC 8935 §2.4), Outage."""
        keys = await self._current()
        try:
            return open_event_token(token, keys, self._rule.algorithms, bytes_max=bytes_max)
        except UnknownKey:
            if self._rule.keys is not None or not await self._renewed(_AGAIN_SECONDS):
                raise
        return open_event_token(token, self._keys or {"keys": []}, self._rule.algorithms, bytes_max=bytes_max)

    async def fetch(self) -> int:
        """Fetch them now; how many there are. Raises Mistake, Outage."""
        if self._rule.keys is None:
            self._keys = await fetch_keys(self._rule, self._reach)
            self._fetched_at = self._now()
        return len((self._keys or {"keys": []})["keys"])

    async def _current(self) -> Mapping[str, Any]:
        if self._rule.keys is not None:
            return self._rule.keys
        if self._now() - self._fetched_at >= _FRESH_SECONDS or self._keys is None:
            await self._renewed(0.0)
        if self._keys is None or self._now() - self._fetched_at >= _STALE_SECONDS:
            raise Outage(f"the keys of transmitter {self._rule.name} cannot be had", code="keys_unavailable", retry_after_seconds=30)
        return self._keys

    async def _renewed(self, apart_seconds: float) -> bool:
        """Fetch, unless that was tried a moment ago; whether there are new ones."""
        before = self._tried_at
        async with self._turn:
            if self._tried_at != before:  # somebody else did, while we waited
                return self._fetched_at >= self._tried_at
            now = self._now()
            if now - self._tried_at < max(apart_seconds, self._wait_seconds):
                return False
            self._tried_at = now
            try:
                self._keys = await fetch_keys(self._rule, self._reach)
            except (Mistake, Outage) as error:
                _LOG.warning("the keys of transmitter %s cannot be had: %s", self._rule.name, error.message)
                self._wait_seconds = min(max(self._wait_seconds * 2, _FIRST_WAIT_SECONDS), _WAIT_SECONDS_MAX)
                return False
            self._fetched_at, self._wait_seconds = self._now(), 0.0
            return True

    def _now(self) -> float:
        return self._clock().timestamp()


async def fetch_keys(rule: TransmitterRule, reach: Reaches) -> Mapping[str, Any]:
    """The transmitter's key set as it is now. Raises Mistake (it is not what it should be), Outage."""
    address = rule.jwks_uri
    if not address:
        metadata = await _json(reach, metadata_address(rule.issuer), rule, _METADATA_BYTES_MAX)
        if metadata.get("issuer") != rule.issuer:
            raise Mistake("the metadata is that of another issuer", code="keys")
        stated = metadata.get("jwks_uri")
        if not isinstance(stated, str):
            raise Mistake("the metadata names no jwks_uri", code="keys", hint="jwks_uri or jwks_file in remit.toml")
        address = stated
    answer = await reach.get(address, private=rule.private, bytes_max=_KEYS_BYTES_MAX)
    if answer.status != _OK:
        raise Outage(f"the key set answers {answer.status}", code="keys_unavailable")
    return read_key_set(answer.body)


def metadata_address(issuer: str) -> str:
    """SSF 1.0 §7.2.1: the well-known path stands between host and path of the issuer."""
    parts = urlsplit(issuer)
    return f"{parts.scheme}://{parts.netloc}{WELL_KNOWN}{parts.path.rstrip('/')}"


async def _json(reach: Reaches, address: str, rule: TransmitterRule, bytes_max: int) -> dict[str, Any]:
    answer = await reach.get(address, private=rule.private, bytes_max=bytes_max)
    if answer.status != _OK:
        raise Outage(f"the metadata answers {answer.status}", code="keys_unavailable")
    found = parse_json(answer.body, depth_max=16, bytes_max=bytes_max)
    if not isinstance(found, dict):
        raise Mistake("the metadata is no object", code="keys")
    return found
