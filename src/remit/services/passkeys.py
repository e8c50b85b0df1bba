"""Passkeys of people: adding and removing them, and proofs that are bound to exactly one act.

Rules
* A challenge is random and sealed into the form it is for: for one person, one session, one act, some minutes, once.
* The first passkey of a person is taken from whoever is signed in as them, and recorded; every further one, and each removal, takes a
  proof by one that is there. ``forget`` is for who has lost theirs, at remit's own command line.
* Public keys rest sealed under the person's name: who can write into the store adds none.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import msgspec

from remit.drivers.authenticators import asked_to_prove, asked_to_register, check_proved, registered, used
from remit.errors import Conflict, NotFound, Refusal, RemitError, Unauthenticated
from remit.logic.records import encode
from remit.model.console import Passkey, PasskeyAdded, PasskeyRemoved
from remit.model.record import Body, Record
from remit.store.database import Append

if TYPE_CHECKING:
    from collections.abc import Callable

    from remit.drivers.sealing import Sealer
    from remit.services.console_sessions import Session
    from remit.services.replays import Replays
    from remit.store.database import Store

_KEPT = "console/passkey/"
_OF_ONE_MAX = 10
_TTL = timedelta(minutes=15)  # a question is read before it is answered
_LABEL_CHARACTERS_MAX = 60
_STATE_CHARACTERS_MAX = 2_048
_REGISTER, _ADD = "register", "add"


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """What a browser is asked (JSON), and the sealed form of it that comes back with the answer."""

    options: str
    state: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where our pages stand: ``name``, the relying party's id; ``origin``, as the browser calls them."""

    name: str
    origin: str

    def is_at(self, host: str) -> bool:
        """Whether a page that was asked for by this Host header stands there."""
        return urlsplit(self.origin).netloc == host


class _Asked(msgspec.Struct, frozen=True):
    """A challenge, for what. ``until``: seconds since 1970."""

    act: str
    person: str
    session: str
    challenge: bytes
    until: int


class _Kept(msgspec.Struct, frozen=True):
    """A passkey as it rests."""

    id: bytes
    public_key: bytes
    added: int
    label: str


class Passkeys:
    """The passkeys of one store."""

    def __init__(self, store: Store, sealer: Sealer, replays: Replays, clock: Callable[[], datetime]) -> None:
        self._store, self._sealer, self._replays, self._clock = store, sealer, replays, clock

    async def of(self, person: str) -> tuple[Passkey, ...]:
        """A person's passkeys, the oldest first. Raises Outage."""
        found = []
        for key in await self._store.document_keys(_place(person), "", _OF_ONE_MAX * 2):
            sealed = await self._store.document(key)
            if sealed is None:
                continue
            try:
                kept = msgspec.json.decode(self._sealer.open(sealed, key), type=_Kept)
            except (RemitError, msgspec.MsgspecError):
                continue  # it was not put there by us
            added = datetime.fromtimestamp(kept.added, UTC)
            found.append(Passkey(id=kept.id, public_key=kept.public_key, added_at=added, label=kept.label))
        return tuple(sorted(found, key=lambda one: one.added_at))

    async def to_register(self, session: Session, site: Site) -> Challenge:
        """Ask for a new passkey. Raises Outage."""
        known = await self.of(session.visitor.name)
        asked = self._asked(session, _REGISTER)
        handle = hashlib.sha256(f"passkey user\0{session.visitor.name}".encode()).digest()
        options = asked_to_register(site.name, session.visitor.name, handle, asked.challenge, [one.id for one in known])
        return Challenge(options=options, state=self._sealed(asked))

    async def to_prove(self, session: Session, site: Site, act: str) -> Challenge | None:
        """Ask for a proof, for one act; ``None`` where the person has no passkey. Raises Outage."""
        known = await self.of(session.visitor.name)
        if not known:
            return None
        asked = self._asked(session, act)
        return Challenge(options=asked_to_prove(site.name, asked.challenge, [one.id for one in known]), state=self._sealed(asked))

    async def to_add(self, session: Session, site: Site) -> Challenge | None:
        """Ask for the proof that a further passkey takes; ``None`` for the first one. Raises Outage."""
        return await self.to_prove(session, site, _ADD)

    async def proved(self, session: Session, site: Site, act: str, state: str, response: str) -> str:
        """The digest of the passkey that proves this act, which is used up by it. Raises Refusal (passkey), Outage."""
        asked = self._opened(session, act, state)
        claimed = used(response)
        found = next((one for one in await self.of(session.visitor.name) if one.id == claimed), None)
        if found is None:
            raise Refusal("this passkey is none of yours here", code="passkey", hint="register it under your name in the console")
        check_proved(response, asked.challenge, site.name, site.origin, found.public_key)
        await self._take(asked)
        return digest_of(found.id)

    async def add(self, session: Session, site: Site, state: str, response: str, label: str, proof: tuple[str, str]) -> str:
        """Register a passkey: its digest. ``proof``: state and answer of ``to_add`` where it is not the first. Raises Refusal, Outage."""
        person = session.visitor.name
        asked = self._opened(session, _REGISTER, state)
        credential, public_key = registered(response, asked.challenge, site.name, site.origin)
        known = await self.of(person)
        if len(known) >= _OF_ONE_MAX:
            raise Conflict(f"you have {len(known)} passkeys", code="passkeys", hint="remove one first")
        if known:
            await self.proved(session, site, _ADD, *proof)
        await self._take(asked)
        key, digest = f"{_place(person)}{digest_of(credential)}", digest_of(credential)
        await self._record(PasskeyAdded(person=person, passkey=digest, session=session.id[:16]))
        kept = _Kept(id=credential, public_key=public_key, added=self._now(), label=label[:_LABEL_CHARACTERS_MAX])
        await self._store.put_document(key, self._sealer.seal(msgspec.json.encode(kept), key))
        return digest

    async def remove(self, session: Session, site: Site, digest: str, state: str, response: str) -> None:
        """Forget one of the person's passkeys, proved by one of them. Raises NotFound, Refusal, Outage."""
        person = session.visitor.name
        if digest not in {digest_of(one.id) for one in await self.of(person)}:
            raise NotFound("this is no passkey of yours")
        await self.proved(session, site, f"remove {digest}", state, response)
        await self._record(PasskeyRemoved(person=person, passkey=digest, by=person))
        await self._store.drop_document(f"{_place(person)}{digest}")

    async def forget(self, person: str, *, by: str) -> int:
        """Forget all of a person's passkeys, who has lost them; how many. Raises Outage."""
        keys = await self._store.document_keys(_place(person), "", _OF_ONE_MAX * 2)
        for key in keys:
            await self._record(PasskeyRemoved(person=person, passkey=key.rpartition("/")[2], by=by))
            await self._store.drop_document(key)
        return len(keys)

    def _asked(self, session: Session, act: str) -> _Asked:
        until = self._now() + int(_TTL.total_seconds())
        return _Asked(act=act, person=session.visitor.name, session=session.id, challenge=secrets.token_bytes(32), until=until)

    def _sealed(self, asked: _Asked) -> str:
        return self._sealer.seal(msgspec.json.encode(asked), "challenge of a passkey")

    def _opened(self, session: Session, act: str, state: str) -> _Asked:
        gone = Refusal("this page is too old for your passkey, or was made for something else", code="passkey", hint="reload the page")
        if not 0 < len(state) <= _STATE_CHARACTERS_MAX:
            raise gone
        try:
            asked = msgspec.json.decode(self._sealer.open(state, "challenge of a passkey"), type=_Asked)
        except (RemitError, msgspec.MsgspecError):
            raise gone from None
        if (asked.act, asked.person, asked.session) != (act, session.visitor.name, session.id) or self._now() >= asked.until:
            raise gone
        return asked

    async def _take(self, asked: _Asked) -> None:
        try:
            await self._replays.take(f"passkey {hashlib.sha256(asked.challenge).hexdigest()}", datetime.fromtimestamp(asked.until, UTC))
        except Unauthenticated:
            raise Refusal("this answer of your passkey was used before", code="passkey", hint="reload the page") from None

    async def _record(self, body: Body) -> None:
        await self._store.append(Append(body=encode(Record(at=self._clock(), body=body))))

    def _now(self) -> int:
        return int(self._clock().timestamp())


def site_of(issuer: str) -> Site:
    """The site of our URL; on the loopback it is named localhost, because passkeys know no addresses (WebAuthn §5.1.3)."""
    where = urlsplit(issuer)
    if where.hostname not in {"127.0.0.1", "::1", "localhost"}:
        return Site(name=where.hostname or "", origin=f"{where.scheme}://{where.netloc}")
    port = f":{where.port}" if where.port else ""
    return Site(name="localhost", origin=f"{where.scheme}://localhost{port}")


def act_of_answer(approval: str, digest: str) -> str:
    """The act of saying yes to one question about exactly one call."""
    return f"approve {approval} {digest}"


def digest_of(credential: bytes) -> str:
    """By which a passkey is known in the ledger and in addresses."""
    return base64.b32encode(hashlib.sha256(credential).digest()[:20]).decode().lower()


def _place(person: str) -> str:
    return f"{_KEPT}{hashlib.sha256(f'passkey person{chr(0)}{person}'.encode()).hexdigest()[:32]}/"
