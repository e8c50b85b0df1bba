"""Sessions of the console: who is signed in, on any node, until they leave, are idle, or their time is up.

Rules
* A cookie holds a random id and nothing else. What it stands for rests sealed in the store, so that nobody who can write there makes a
  session, every node knows it, and its end holds at once everywhere.
* A session says who somebody is. Their roles are asked of the configuration each time.
* That somebody was active is kept four times in an idle time, never in the session itself: two nodes that write cannot bring an ended one
  back. So a session idles out after three quarters of the time at the earliest.
* Of one person only some sessions live; the oldest makes room. Names that signals would take for the same are one person.
"""

from __future__ import annotations

import hashlib
import secrets
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from remit.errors import RemitError
from remit.logic.records import encode
from remit.logic.subjects import same_person
from remit.model.console import ConsoleRules, PersonSignedIn, PersonSignedOut, Via, Visitor
from remit.model.record import Body, Record
from remit.store.database import Append

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from remit.drivers.sealing import Sealer
    from remit.store.database import Store

_SESSIONS, _SEEN = "console/session/", "console/seen/"
_OF_ONE_MAX = 10
_IN_MEMORY_MAX = 10_000
_PAGE = 200
_COOKIE_CHARACTERS_MAX = 200
_OFTEN = 4  # so often within the idle time it is kept that somebody was active


class _Kept(msgspec.Struct, frozen=True):
    """What rests in the store. Times in seconds since 1970."""

    name: str
    via: str
    holds: list[str]
    began: int
    csrf: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A session that holds. ``id``: digest of what the cookie says. ``csrf``: what its forms carry."""

    id: str
    key: str
    visitor: Visitor
    began_at: datetime
    csrf: str = field(repr=False)


class Sessions:
    """The sessions of one store."""

    def __init__(self, store: Store, sealer: Sealer, clock: Callable[[], datetime], rules: Callable[[], ConsoleRules]) -> None:
        self._store, self._sealer, self._clock, self._rules = store, sealer, clock, rules
        self._active: OrderedDict[str, int] = OrderedDict()

    async def begin(self, visitor: Visitor, roles: Collection[str]) -> str:
        """A new session, recorded before it holds: what its cookie says. Raises Outage."""
        cookie = f"{_mark(visitor.name)}.{secrets.token_urlsafe(32)}"
        key = _key(cookie)
        digest = key.rpartition("/")[2]
        signed_in = PersonSignedIn(person=visitor.name, via=visitor.via.value, session=digest[:16], roles=sorted(roles))
        await self._record(signed_in)
        others = [(await self._began(other), other) for other in await self._store.document_keys(_of_person(visitor.name), "", _PAGE)]
        for _, other in sorted(others)[: max(len(others) + 1 - _OF_ONE_MAX, 0)]:
            await self._drop(other)
        kept = _Kept(
            name=visitor.name, via=visitor.via.value, holds=sorted(visitor.holds), began=self._now(), csrf=secrets.token_urlsafe(32)
        )
        await self._store.put_document(key, self._sealer.seal(msgspec.json.encode(kept), _purpose(key)))
        return cookie

    async def of(self, cookie: str, *, active: bool = True) -> Session | None:
        """The session of a cookie; ``None`` where none holds. ``active``: a person did something, no page by itself. Raises Outage."""
        if not cookie or len(cookie) > _COOKIE_CHARACTERS_MAX:
            return None
        key = _key(cookie)
        kept = await self._opened(key)
        if kept is None:
            return None
        digest = key.rpartition("/")[2]
        if self._over(kept) or not await self._still_active(digest, kept.began, active=active):
            await self._drop(key)
            return None
        visitor = Visitor(name=kept.name, via=Via(kept.via), holds=frozenset(kept.holds))
        return Session(id=digest, key=key, visitor=visitor, began_at=datetime.fromtimestamp(kept.began, UTC), csrf=kept.csrf)

    async def holds(self, session: Session) -> bool:
        """Whether a session holds still, without making it active. Raises Outage."""
        kept = await self._opened(session.key)
        return kept is not None and not self._over(kept) and await self._still_active(session.id, kept.began, active=False)

    async def end(self, session: Session) -> None:
        """Sign out. Raises Outage."""
        await self._record(PersonSignedOut(person=session.visitor.name, by=session.visitor.name, session=session.id[:16]))
        await self._drop(session.key)

    async def end_all(self, person: str, *, by: str) -> int:
        """End every session of a person, everywhere; how many. Raises Outage."""
        keys = await self._store.document_keys(_of_person(person), "", _PAGE)
        if not keys:
            return 0
        await self._record(PersonSignedOut(person=person, by=by))
        for key in keys:
            await self._drop(key)
        return len(keys)

    async def sweep(self) -> int:
        """Forget sessions whose time is up; how many. Safe anywhere, any number of times. Raises Outage."""
        dropped, after = 0, ""
        while keys := await self._store.document_keys(_SESSIONS, after, _PAGE):
            for key in keys:
                kept = await self._opened(key)
                if kept is None or self._over(kept):
                    await self._drop(key)
                    dropped += 1
            after = keys[-1]
        return dropped

    async def _still_active(self, digest: str, began: int, *, active: bool) -> bool:
        """Whether it was active within the idle time, as far as that is kept; if so, and it is now, that is kept now and then."""
        now, beginning, idle = self._now(), f"{_SEEN}{digest}/", int(self._rules().idle.total_seconds())
        often = max(idle // _OFTEN, 1)
        if now - self._active.get(digest, 0) < often:
            return True
        keys = await self._store.document_keys(beginning, "", _PAGE)
        last = max([began, *(int(key.rpartition("/")[2]) for key in keys)])
        if now - last >= idle:
            return False
        if active and now - last >= often:
            last = now
            await self._store.put_document(f"{beginning}{now:012d}", "seen")
            for key in keys:
                await self._store.drop_document(key)
        self._active[digest] = last
        if len(self._active) > _IN_MEMORY_MAX:
            self._active.popitem(last=False)
        return True

    async def _opened(self, key: str) -> _Kept | None:
        sealed = await self._store.document(key)
        if sealed is None:
            return None
        try:
            return msgspec.json.decode(self._sealer.open(sealed, _purpose(key)), type=_Kept)
        except (RemitError, msgspec.MsgspecError):
            return None

    async def _began(self, key: str) -> int:
        kept = await self._opened(key)
        return kept.began if kept else 0

    async def _drop(self, key: str) -> None:
        digest = key.rpartition("/")[2]
        await self._store.drop_document(key)
        self._active.pop(digest, None)
        for seen in await self._store.document_keys(f"{_SEEN}{digest}/", "", _PAGE):
            await self._store.drop_document(seen)

    async def _record(self, body: Body) -> None:
        await self._store.append(Append(body=encode(Record(at=self._clock(), body=body))))

    def _over(self, kept: _Kept) -> bool:
        return self._now() - kept.began >= self._rules().lasts.total_seconds()

    def _now(self) -> int:
        return int(self._clock().timestamp())


def _mark(person: str) -> str:
    return hashlib.sha256(f"console person\0{same_person(person)}".encode()).hexdigest()[:16]


def _of_person(person: str) -> str:
    return f"{_SESSIONS}{_mark(person)}/"


def _key(cookie: str) -> str:
    """Where a cookie's session rests. The mark of its person is part of what is digested, so another's mark opens nothing."""
    return f"{_SESSIONS}{cookie.partition('.')[0][:16]}/{hashlib.sha256(cookie.encode()).hexdigest()}"


def _purpose(key: str) -> str:
    return f"session {key}"
