"""The X.509 authority of the embedded trust domain: made on first use, rotated with overlap, one for all processes of a store.

Rules: an authority lies in the store, sealed under the keys folder's secret; of several processes that make the next one at a time
the first wins, and all use that. It is in the ledger before anybody can meet it. The key of an expired one is erased.
"""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from remit.drivers.x509 import AuthorityKey, authority_jwk, make_authority, make_svid
from remit.errors import Outage, Unauthenticated
from remit.logic.records import encode
from remit.logic.x509_svid import next_is_due, prepared_for, published, sequence, signing
from remit.model.record import Record
from remit.model.svid import DomainKeys
from remit.model.token_record import AuthorityMade
from remit.store.database import Append

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from cryptography.x509 import Certificate

    from remit.drivers.sealing import Sealer
    from remit.model.identity import SpiffeId
    from remit.model.svid import X509Svid
    from remit.store.database import Store

_KEPT_MAX = 100
_LOOK_EVERY = timedelta(minutes=1)


class Authority:
    """Signs X.509-SVIDs of one trust domain, and publishes its bundle."""

    def __init__(
        self,
        store: Store,
        sealer: Sealer,
        clock: Callable[[], datetime],
        *,
        trust_domain: str,
        life: timedelta,
        jwt_bundle: Callable[[], dict[str, Any]],
    ) -> None:
        """``life`` of one authority. ``jwt_bundle``: the bundle without us (SPIFFE Trust Domain and Bundle §4)."""
        self._store, self._sealer, self._clock = store, sealer, clock
        self._trust_domain, self._life, self._jwt_bundle = trust_domain, life, jwt_bundle
        self._beginning = f"x509-authority/{trust_domain}/"
        self._known: tuple[AuthorityKey, ...] = ()
        self._look_at: datetime | None = None
        self._lock = asyncio.Lock()

    async def issue(self, spiffe_id: SpiffeId, serial: int, now: datetime, expires_at: datetime) -> X509Svid:
        """An X.509-SVID. The caller has recorded it. Raises Outage."""
        authorities = await self._current(now)
        place = signing([one.begins for one in authorities], self._life, now, expires_at - now)
        signer = authorities[place]
        ends = min(expires_at, signer.begins + self._life)
        return await asyncio.to_thread(make_svid, signer, spiffe_id, serial, now, ends)

    async def keys(self) -> DomainKeys:
        """What verifiers need, as of now. Raises Outage."""
        bundle, authorities = await self._bundle()
        keys = [key for key in bundle["keys"] if key.get("use") == "jwt-svid"]
        return DomainKeys(
            trust_domain=self._trust_domain,
            authorities=b"".join(one.der for one in authorities),
            jwks=json.dumps({"keys": keys}).encode(),
            sequence=bundle["spiffe_sequence"],
        )

    async def certificates(self) -> list[Certificate]:
        """The signing certificates that count now. Raises Outage."""
        return [one.certificate for one in await self._current(self._clock())]

    async def bundle(self) -> dict[str, Any]:
        """The whole bundle of the trust domain. Raises Outage."""
        return (await self._bundle())[0]

    async def _bundle(self) -> tuple[dict[str, Any], tuple[AuthorityKey, ...]]:
        now = self._clock()
        authorities = await self._current(now)
        bundle = self._jwt_bundle()
        rises = sequence(authorities[0].number, authorities[-1].number) - 1
        keys = [*(authority_jwk(one.certificate) for one in authorities), *bundle["keys"]]
        return {**bundle, "spiffe_sequence": bundle["spiffe_sequence"] + rises, "keys": keys}, authorities

    async def _current(self, now: datetime) -> tuple[AuthorityKey, ...]:
        """Those that count, oldest first; looks into the store now and then, and makes the next when it is due."""
        async with self._lock:
            if self._look_at is None or now >= self._look_at or next_is_due(self._begins(), self._life, now):
                self._known, last = await self._read()
                if next_is_due(self._begins(), self._life, now):
                    await self._make(last + 1, now)
                    self._known, _ = await self._read()
                self._look_at = now + min(_LOOK_EVERY, prepared_for(self._life) / 4)
            counting = published(self._begins(), self._life, now)
            if not counting:  # another secret's authority took our number, or the clock went astray
                raise Outage("the trust domain has no authority yet; another one is made at the next request", code="authority")
            return tuple(self._known[place] for place in counting)

    def _begins(self) -> list[datetime]:
        return [one.begins for one in self._known]

    async def _read(self) -> tuple[tuple[AuthorityKey, ...], int]:
        """Those that we can sign under, oldest first, and the last number that is taken, by whatever secret."""
        found, last = [], 0
        for key in await self._store.document_keys(self._beginning, "", _KEPT_MAX):
            number = int(key.removeprefix(self._beginning))
            last = max(last, number)
            sealed = await self._store.document(key)
            try:
                text = self._sealer.open(sealed or "", key)
            except Unauthenticated:  # of a secret that is no longer here: nobody can sign under it, so nobody need know it
                continue
            found.append(AuthorityKey.parse(number, text.decode()))
        return tuple(sorted(found, key=lambda one: one.number)), last

    async def _make(self, number: int, now: datetime) -> None:
        """``number`` follows what was read when the next was found due: where another process was faster, it has taken that one."""
        made = make_authority(self._trust_domain, number, now, self._life)
        body = AuthorityMade(number=number, fingerprint=made.fingerprint, begins_at=now, ends_at=now + self._life)
        await self._store.append(Append(body=encode(Record(at=now, body=body))))
        key = f"{self._beginning}{number:010d}"
        await self._store.put_document(key, self._sealer.seal(made.text().encode(), key))
        for one in self._known:
            if one.begins + self._life <= now:
                await self._store.drop_document(f"{self._beginning}{one.number:010d}")
