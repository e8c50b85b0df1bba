"""Authorization requests that a client has pushed (RFC 9126): kept for a minute, for that client, for one use.

Rules
* What a client gets is an address that nobody can guess, and that says nothing. What stands in the store is sealed, under a digest of it:
  any node serves it, and who reads the store cannot use it.
* The first use wins, on whichever node; a reload of the browser is a second use, and begins anew at the client.
* Bounded: a client has so many at once, and all clients that registered themselves share one such number, so that nobody fills the store.

Left out: what a request must say (``services/front_channel.py``, before it is kept and again when it is used).
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import msgspec

from remit.errors import Outage, Refusal, Unauthenticated
from remit.logic.front_channel import PUSHED
from remit.model.front_channel import Known

if TYPE_CHECKING:
    from collections.abc import Callable

    from remit.drivers.sealing import Sealer
    from remit.logic.token_requests import Form
    from remit.model.front_channel import PublicClient
    from remit.services.replays import Replays
    from remit.store.database import Store

_TTL = timedelta(seconds=60)
_LIVING_MAX = 500  # of one client
_ADDRESS_CHARACTERS_MAX = 200
_AT_ONCE = 200
_KEPT, _PURPOSE = "par/", "pushed authorization request"


class _Kept(msgspec.Struct, frozen=True):
    client: str
    until: int
    form: dict[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushed:
    """What a client is told (RFC 9126 §2.2)."""

    request_uri: str
    expires_in: int


class PushedRequests:
    """Pushed requests, in one store."""

    def __init__(self, store: Store, replays: Replays, sealer: Sealer, clock: Callable[[], datetime]) -> None:
        self._store, self._replays, self._sealer, self._clock = store, replays, sealer, clock

    async def make_room(self, client: PublicClient) -> None:
        """Raises Outage (too_many) where the client has as many as it may."""
        beginning = _beginning(client)
        keys = await self._store.document_keys(beginning, "", _LIVING_MAX * 2)
        over = [key for key in keys if key < beginning + self._now()]
        if len(keys) - len(over) >= _LIVING_MAX:
            raise Outage("this client has pushed too many requests", code="too_many")
        for key in over:
            await self._store.drop_document(key)

    async def keep(self, client: PublicClient, form: Form) -> Pushed:
        """Keep a request that was checked. Raises Outage."""
        until = int((self._clock() + _TTL).timestamp())
        name = f"{until:012d}.{secrets.token_urlsafe(32)}"
        kept = _Kept(client=client.id, until=until, form=form)
        await self._store.put_document(_key(client, name), self._sealer.seal(msgspec.json.encode(kept), _PURPOSE))
        return Pushed(request_uri=PUSHED + name, expires_in=int(_TTL.total_seconds()))

    async def taken(self, client: PublicClient, request_uri: str) -> Form:
        """The request of an address, once, for the client that pushed it. Raises Refusal (invalid_request_uri), Outage."""
        gone = Refusal(
            "this request was used before, has expired, or is another client's",
            code="invalid_request_uri",
            hint="begin again at your client",
        )
        name = request_uri.removeprefix(PUSHED)
        if len(request_uri) > _ADDRESS_CHARACTERS_MAX:
            raise gone
        key = _key(client, name)
        text = await self._store.document(key)
        if text is None:
            raise gone
        try:
            kept = msgspec.json.decode(self._sealer.open(text, _PURPOSE), type=_Kept)
            until = datetime.fromtimestamp(kept.until, UTC)
            if kept.client != client.id or self._clock() >= until:
                raise gone
            await self._replays.take(f"pushed {key}", until)
        except (Unauthenticated, msgspec.MsgspecError):
            raise gone from None
        await self._store.drop_document(key)
        return kept.form

    async def sweep(self) -> int:
        """Forget requests that expired; returns how many. Safe to run anywhere, any number of times. Raises Outage."""
        dropped, after, now = 0, "", self._now()
        while keys := await self._store.document_keys(_KEPT, after, _AT_ONCE):
            for key in [key for key in keys if key.rsplit("/", 2)[1] < now]:
                await self._store.drop_document(key)
                dropped += 1
            after = keys[-1]
        return dropped

    def _now(self) -> str:
        return f"{int(self._clock().timestamp()):012d}"


def _beginning(client: PublicClient) -> str:
    """Where a client's requests stand. An id is for the asking where clients register themselves, so those share one place."""
    whose = client.known.value if client.known is Known.REGISTERED else client.id
    return f"{_KEPT}{_digest(whose)}/"


def _key(client: PublicClient, name: str) -> str:
    """``name``: the time until which it holds, and what nobody can guess, of which the store has a digest."""
    until = name.partition(".")[0]
    return f"{_beginning(client)}{until if until.isascii() and until.isdecimal() else 0}/{_digest(name)}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
