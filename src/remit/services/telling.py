"""Tells receivers what became of tasks, agents and tokens, by push (RFC 8935) or poll (RFC 8936), from a cursor over the ledger.

Rules: the ledger is the queue. What has to be told is made from its entries, and how far each stream was told is kept in the store, so a
restart, another node or a receiver that is away loses nothing. A token may arrive twice, always with the same id; tokens of a stream are
pushed in order, the next one when the one before was taken, or refused for good (which is recorded). Of several nodes one pushes a
stream at a time; where it dies another one does, seconds later. Attempts are backed off, entries read at a time and tokens outstanding are
bounded; nothing here is on the road of a call.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from remit.errors import Broken, Mistake, Outage, RemitError
from remit.logic.arguments import parse_json
from remit.logic.records import decode, encode
from remit.logic.signals import CODES
from remit.logic.telling import after_acks, agents_told, its_own, set_claims, token_id, token_told, told, verification, wanted
from remit.model.record import Record, TaskMoved, TaskOpened
from remit.model.signal import PUSH, SignalRefused, Stream, StreamChanged
from remit.model.task import TaskState
from remit.model.token_record import TokenRevoked
from remit.services.turns import Turn
from remit.store.database import Append

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from remit.drivers.event_tokens import EventSigner
    from remit.drivers.outward import Reaches
    from remit.model.signal import ReceiverRule, Told
    from remit.services.streams import Streams
    from remit.store.database import Entry, Store

_LOG = logging.getLogger("remit")
_MOVED, _STREAM, _REVOKED = b'"kind":"task.moved"', b'"kind":"signal.stream"', b'"kind":"token.revoked"'
_AGENTS = (b'"kind":"agents.stopped"', b'"kind":"agents.restored"')
_PAGE, _SCANNED_MAX, _OUTSTANDING_MAX, _ACKS_MAX = 500, 10_000, 100, 1_000
_LOOK_SECONDS, _APART_SECONDS, _POLL_SECONDS, _POLLS_MAX = 2.0, 0.25, 20.0, 4
_FIRST_WAIT_SECONDS, _WAIT_SECONDS_MAX = 1.0, 300.0
_BAD_REQUEST, _OK, _REDIRECTS = 400, 200, 300
_ANSWER_BYTES_MAX = 65_536


class Cursor(msgspec.Struct, frozen=True):
    """How far a stream was told: the entry to look at next, events of it that are done with, and later ones that are acknowledged."""

    entry: int
    part: int = 0
    acked: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """A token to be told, not signed yet. ``entry`` and ``part`` place it in the ledger."""

    jti: str
    entry: int
    part: int
    claims: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Polled:
    """Tokens by id, and whether there are more."""

    sets: dict[str, str]
    more: bool


class Telling:
    """The transmitter."""

    def __init__(
        self,
        store: Store,
        streams: Streams,
        signer: EventSigner,
        reach: Reaches,
        clock: Callable[[], datetime],
        *,
        issuer: str,
        node: str,
    ) -> None:
        """``node``: names this process among others on the same store."""
        self._node = node
        self._turns: dict[str, Turn] = {}  # by stream, of those that this node has pushed or wanted to
        self._store, self._streams, self._signer, self._reach, self._clock = store, streams, signer, reach, clock
        self._issuer = issuer
        self._polls: dict[str, int] = {}  # that wait, by receiver

    async def run(self) -> None:
        """Push to every receiver that wants it, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for rule in self._streams.rules.receivers.values():
                group.create_task(self._push_all(rule))

    async def push_once(self, rule: ReceiverRule) -> bool:
        """Tell the next event of a pushed stream; False where there is none. Raises Outage (the receiver, too), Mistake."""
        stream = await self._streams.of(rule)
        if stream is None or stream.status != "enabled" or stream.method != PUSH:
            return False
        version, cursor = await self._cursor(stream)
        outgoing, end = await self._outgoing(rule, stream, cursor, 1)
        if not outgoing:
            await self._advanced(stream, version, cursor, end)
            return False
        if not await self._turn(stream).ours():
            return False
        if (await self._cursor(stream))[0] != version:
            return True  # another node told it before the turn was ours
        one = outgoing[0]
        refusal = await self._pushed(rule, stream, one)
        if refusal:
            refused = SignalRefused(receiver=rule.name, stream=stream.id, jti=one.jti, code=refusal)
            await self._store.append(Append(body=encode(Record(at=self._clock(), body=refused))))
            _LOG.warning("receiver %s refused %s for good: %s", rule.name, one.jti, refusal)
        await self._write(stream, version, Cursor(one.entry, one.part + 1))
        return True

    async def close(self) -> None:
        """Let other nodes go on at once. Raises Outage."""
        for turn in tuple(self._turns.values()):
            await turn.give_up()

    async def poll(self, rule: ReceiverRule, stream: Stream, *, sets_max: int, acks: frozenset[str], at_once: bool) -> Polled:
        """Take acknowledgements and give what is outstanding (RFC 8936 §2). Waits a while for something where that is asked for.

        Raises Mistake (too many acknowledgements), Outage.
        """
        if len(acks) > _ACKS_MAX:
            raise Mistake(f"more than {_ACKS_MAX:,} acknowledgements at once", code="body")
        if at_once or self._polls.get(rule.name, 0) >= _POLLS_MAX:
            return await self._polled(rule, stream, max(0, sets_max), acks, 0.0)
        self._polls[rule.name] = self._polls.get(rule.name, 0) + 1
        try:
            return await self._polled(rule, stream, max(0, sets_max), acks, _POLL_SECONDS)
        finally:
            self._polls[rule.name] -= 1

    async def _polled(self, rule: ReceiverRule, stream: Stream, give: int, acks: frozenset[str], wait_seconds: float) -> Polled:
        end_at = asyncio.get_running_loop().time() + wait_seconds
        while True:
            version, cursor = await self._cursor(stream)
            outgoing, end = await self._outgoing(rule, stream, cursor, _OUTSTANDING_MAX)
            done, left = after_acks([one.jti for one in outgoing], frozenset(cursor.acked) | acks)
            new = _after(cursor, outgoing, done, left, end)
            if new != cursor and not await self._write(stream, version, new):
                continue  # another poll of the same receiver was first
            waiting = [one for one in outgoing[done:] if one.jti not in left] if stream.status == "enabled" else []
            mark = await self._store.change_mark()
            behind = end < mark
            seconds = end_at - asyncio.get_running_loop().time()
            if waiting or give == 0 or seconds <= 0:
                return Polled(sets={one.jti: self._signer.sign(one.claims) for one in waiting[:give]}, more=len(waiting) > give or behind)
            if not behind:
                await self._store.wait_for_change(mark, min(seconds, _LOOK_SECONDS))

    async def _push_all(self, rule: ReceiverRule) -> None:
        wait = _FIRST_WAIT_SECONDS
        while True:
            pause = 0.0
            try:
                mark = await self._store.change_mark()
                if not await self.push_once(rule):
                    await self._store.wait_for_change(mark, _LOOK_SECONDS)
                    pause = _APART_SECONDS  # a busy ledger is not looked at after every entry
                wait = _FIRST_WAIT_SECONDS
            except RemitError as error:
                if wait == _FIRST_WAIT_SECONDS:
                    _LOG.warning("receiver %s is not told: %s", rule.name, error.message)
                pause = max(wait, float(getattr(error, "retry_after_seconds", 0)))
                wait = min(wait * 2, _WAIT_SECONDS_MAX)
            except Exception as error:
                _LOG.error("a fault of remit while it tells receiver %s", rule.name, exc_info=error)
                pause = _WAIT_SECONDS_MAX
            await asyncio.sleep(pause)

    async def _pushed(self, rule: ReceiverRule, stream: Stream, one: Outgoing) -> str:
        """Push one token once; "" where it was taken, else why it never will be. Raises Outage, Mistake (the address)."""
        if stream.endpoint not in rule.push:  # the configuration has changed since
            raise Mistake("its endpoint is not admitted any more", code="address")
        headers = {"content-type": "application/secevent+jwt", "accept": "application/json"}
        if authorization := self._streams.authorization(stream):
            headers["authorization"] = authorization
        answer = await self._reach.post(
            stream.endpoint, self._signer.sign(one.claims).encode(), headers, private=rule.private, bytes_max=_ANSWER_BYTES_MAX
        )
        if _OK <= answer.status < _REDIRECTS:
            return ""
        if answer.status == _BAD_REQUEST:
            return _code(answer.body)
        raise Outage(f"it answers {answer.status}", code="peer_unavailable", retry_after_seconds=answer.retry_after_seconds)

    async def _outgoing(self, rule: ReceiverRule, stream: Stream, cursor: Cursor, most: int) -> tuple[list[Outgoing], int]:
        """What comes next, at most so many; and the first entry that was not looked at."""
        found: list[Outgoing] = []
        start = cursor.entry
        while start - cursor.entry < _SCANNED_MAX and len(found) < most:
            entries = await self._store.entries(start, _PAGE)
            for entry in entries:
                for part, event in enumerate(await self._events(rule, stream, entry)):
                    if wanted(event, stream) and (entry.index, part) >= (cursor.entry, cursor.part):
                        found.append(self._made(rule, stream, entry, part, event))
                start = entry.index + 1
                if len(found) >= most:
                    break
            if len(entries) < _PAGE:
                break
        return found[:most], start

    async def _events(self, rule: ReceiverRule, stream: Stream, entry: Entry) -> tuple[Told, ...]:
        """What an entry would tell a stream."""
        if entry.task is not None and (_MOVED in entry.body or _REVOKED in entry.body):
            return await self._of_task(rule, entry)
        if entry.task is None and any(kind in entry.body for kind in _AGENTS):
            return agents_told(decode(entry.body), self._issuer)
        if entry.task is None and _STREAM in entry.body:
            body = decode(entry.body).body
            if isinstance(body, StreamChanged) and body.stream == stream.id and body.what == "verification":
                return (verification(stream.id, await self._streams.verification_state(stream, body.change)),)
        return ()

    async def _of_task(self, rule: ReceiverRule, entry: Entry) -> tuple[Told, ...]:
        record = decode(entry.body)
        if its_own(getattr(record.body, "by", ""), rule.transmitter):
            return ()
        if isinstance(record.body, TokenRevoked):
            return token_told(record, self._issuer)
        opened, prior = await self._before(entry)
        return told(record, opened, prior, issuer=self._issuer, lifecycle=self._streams.rules.lifecycle, persons=rule.persons)

    async def _before(self, moved: Entry) -> tuple[TaskOpened, str]:
        """How the task of an entry was opened, and its state before that entry."""
        entries = await self._store.task_entries(moved.task or "")
        opened = decode(entries[0].body).body if entries else None
        if not isinstance(opened, TaskOpened):
            raise Broken(f"task {moved.task} does not begin with its opening")
        prior = TaskState.PENDING.value
        for entry in entries:
            if entry.seq < moved.seq and _MOVED in entry.body:
                body = decode(entry.body).body
                prior = body.to if isinstance(body, TaskMoved) else prior
        return opened, prior

    def _made(self, rule: ReceiverRule, stream: Stream, entry: Entry, part: int, event: Told) -> Outgoing:
        jti = token_id(stream.id, entry.index, part)
        claims = set_claims(event, decode(entry.body), issuer=self._issuer, audience=rule.audience, jti=jti, index=entry.index)
        return Outgoing(jti=jti, entry=entry.index, part=part, claims=claims)

    def _turn(self, stream: Stream) -> Turn:
        return self._turns.setdefault(stream.id, Turn(self._store, f"ssf/turn/{stream.id}", self._node, self._clock))

    async def _cursor(self, stream: Stream) -> tuple[int, Cursor]:
        version, text = await self._streams.cursor(stream).read()
        if text.isdigit():  # as ``Streams`` begins it
            return version, Cursor(int(text))
        return version, msgspec.json.decode(text, type=Cursor) if text else Cursor(await self._store.change_mark())

    async def _advanced(self, stream: Stream, version: int, cursor: Cursor, end: int) -> None:
        """Nothing was found: keep that from time to time, so that it is not looked for again."""
        if end - cursor.entry >= _PAGE:
            await self._write(stream, version, Cursor(end))

    async def _write(self, stream: Stream, version: int, cursor: Cursor) -> bool:
        return await self._streams.cursor(stream).write(version, msgspec.json.encode(cursor).decode())


def _after(cursor: Cursor, outgoing: list[Outgoing], done: int, left: frozenset[str], end: int) -> Cursor:
    """The cursor once the first ``done`` tokens are acknowledged, and ``left`` of the later ones."""
    if outgoing and done < len(outgoing):
        entry, part = (outgoing[done - 1].entry, outgoing[done - 1].part + 1) if done else (cursor.entry, cursor.part)
        return Cursor(entry, part, tuple(sorted(left)))
    if outgoing:
        return Cursor(outgoing[-1].entry, outgoing[-1].part + 1)
    return Cursor(end) if end - cursor.entry >= _PAGE else cursor


def _code(body: bytes) -> str:
    try:
        said = parse_json(body, depth_max=8, bytes_max=_ANSWER_BYTES_MAX)
    except Mistake:
        return "other"
    code = said.get("err") if isinstance(said, dict) else None
    return code if code in CODES else "other"
