"""Streams of receivers: made, changed, paused and ended by whom they tell (SSF 1.0 §8.1), one stream a receiver.

Rules: only configured receivers have one, each proves itself by its secret, and a stream goes only to addresses that the configuration
admits for it. Every change is in the ledger before it counts. A stream tells what is appended after it was made, or after it was enabled
again; while it is paused nothing is lost.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import msgspec

from remit.errors import Conflict, Mistake, NotFound, Outage, Refusal, Unauthenticated
from remit.logic.arguments import digest_json
from remit.logic.records import encode
from remit.logic.telling import told_events
from remit.model.record import Record
from remit.model.signal import POLL, PUSH, ReceiverRule, SignalRules, Stream, StreamChanged
from remit.services.kept_state import KeptState
from remit.store.database import Append

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime
    from typing import Any

    from remit.drivers.sealing import Sealer
    from remit.store.database import Store

STATUSES = ("enabled", "paused", "disabled")
VERIFY_SECONDS_MIN = 60
_TEXT_MAX, _EVENTS_MAX, _SUBJECTS_MAX, _STATE_MAX = 1_024, 100, 1_000, 1_024
_STATES_MAX = 10  # of verifications that are not told yet
_ATTEMPTS = 8
_PURPOSE = "authorization header of a stream"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a receiver asks of its stream; ``None``: as it is, or the default."""

    method: str | None = None
    endpoint: str | None = None
    authorization: str | None = None
    events: Sequence[str] | None = None
    description: str | None = None


class Streams:
    """Streams of one store."""

    def __init__(
        self, store: Store, rules: SignalRules, sealer: Sealer, clock: Callable[[], datetime], new_id: Callable[[str], str]
    ) -> None:
        """``sealer``: for what receivers ask us to present to them."""
        self._store, self.rules, self._sealer, self._clock, self._new_id = store, rules, sealer, clock, new_id

    def receiver(self, secret: str) -> ReceiverRule:
        """Whose secret it is. Raises Unauthenticated."""
        digest = hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()
        found = [rule for rule in self.rules.receivers.values() if hmac.compare_digest(rule.secret_digest or bytes(len(digest)), digest)]
        if not found:
            raise Unauthenticated("the credential opens nothing here")
        return found[0]

    def supported(self, rule: ReceiverRule) -> tuple[str, ...]:
        """Event types that a receiver may ask for."""
        every = told_events(self.rules.lifecycle)
        return tuple(event for event in every if event in rule.events) if rule.events else every

    async def of(self, rule: ReceiverRule) -> Stream | None:
        """The stream of a receiver; ``None`` where it has none. Raises Outage."""
        return _read((await self._kept(rule).read())[1])

    async def named(self, rule: ReceiverRule, stream_id: str) -> Stream:
        """The receiver's stream, if that is its id. Raises NotFound, Outage."""
        stream = await self.of(rule)
        if stream is None or not hmac.compare_digest(stream.id.encode(), stream_id.encode("utf-8", "surrogatepass")):
            raise NotFound("there is no such stream")
        return stream

    async def create(self, rule: ReceiverRule, wish: Wish) -> Stream:
        """A new stream. Raises Conflict (there is one), Mistake, Refusal (an address that is not admitted), Outage."""
        fresh = Stream(id=self._new_id("stream"), receiver=rule.name, method=POLL, everything=rule.everything)
        stream = self._wished(rule, replace(fresh, events=self.supported(rule)), wish)
        version, text = await self._kept(rule).read()
        if _read(text) is not None:
            raise Conflict("there is a stream already", code="stream_exists", hint="one stream a receiver: read, update or delete it")
        await self._changed(stream, "created")
        await self.cursor(stream).write(0, str(await self._store.change_mark()))
        if not await self._kept(rule).write(version, _text(stream)):
            raise Conflict("there is a stream already", code="stream_exists")
        return stream

    async def update(self, rule: ReceiverRule, stream_id: str, wish: Wish) -> Stream:
        """Change what is wished. Raises NotFound, Mistake, Refusal, Outage."""
        return await self._change(rule, stream_id, "updated", lambda stream: self._wished(rule, stream, wish))

    async def set_status(self, rule: ReceiverRule, stream_id: str, status: str, reason: str) -> Stream:
        """Enable, pause or disable. What happens while it is disabled is not told later. Raises NotFound, Mistake, Outage."""
        if status not in STATUSES or len(reason) > _TEXT_MAX:
            raise Mistake("no such status", code="body", hint=", ".join(STATUSES))
        before = await self.named(rule, stream_id)
        if before.status == "disabled" and status != "disabled":
            await self._told_from_now_on(before)
        return await self._change(rule, stream_id, "status", lambda stream: replace(stream, status=status, reason=reason))

    async def set_subject(self, rule: ReceiverRule, stream_id: str, subject: Mapping[str, Any], *, told: bool) -> None:
        """Add a subject to what the stream tells of, or remove it. Raises NotFound, Mistake (too many), Outage."""
        digest = digest_json(dict(subject))

        def listed(stream: Stream) -> Stream:
            others = tuple(one for one in stream.listed if one != digest)
            now = others if told == stream.everything else (*others, digest)
            if len(now) > _SUBJECTS_MAX:
                raise Mistake(f"more than {_SUBJECTS_MAX:,} subjects", code="too_many_subjects")
            return replace(stream, listed=now)

        await self._change(rule, stream_id, "subject_added" if told else "subject_removed", listed)

    async def verify(self, rule: ReceiverRule, stream_id: str, state: str) -> None:
        """Have a verification event told. Raises NotFound, Mistake, Refusal (too often), Outage."""
        if len(state) > _STATE_MAX:
            raise Mistake("a very long state", code="body")
        stream = await self.named(rule, stream_id)
        kept = KeptState(self._store, f"ssf/verified/{stream.id}")
        version, text = await kept.read()
        now = int(self._clock().timestamp())
        if text and now - int(text) < VERIFY_SECONDS_MIN:
            raise Refusal("verifications are asked for too often", code="too_often", hint=f"one in {VERIFY_SECONDS_MIN} seconds")
        if not await kept.write(version, str(now)):
            raise Refusal("verifications are asked for too often", code="too_often")
        change = f"{version + 1:08d}"
        await self._store.put_document(self._state_key(stream, change), state)
        for key in await self._store.document_keys(self._state_key(stream, ""), "", _STATES_MAX + 1):
            if key < self._state_key(stream, f"{max(version - _STATES_MAX, 0):08d}"):
                await self._store.drop_document(key)
        await self._changed(stream, "verification", change)

    async def verification_state(self, stream: Stream, change: str) -> str:
        """What the receiver wanted to hear again; "" also where it is long ago. Raises Outage."""
        return await self._store.document(self._state_key(stream, change)) or ""

    async def delete(self, rule: ReceiverRule, stream_id: str) -> None:
        """End the stream. Raises NotFound, Outage."""
        stream = await self.named(rule, stream_id)
        version, _ = await self._kept(rule).read()
        await self._changed(stream, "deleted")
        if not await self._kept(rule).write(version, ""):
            raise Outage("the stream is changed by too many at once", code="stream_busy")
        for beginning in (f"ssf/cursor/{stream.id}/", f"ssf/state/{stream.id}/", f"ssf/verified/{stream.id}/", f"ssf/turn/{stream.id}/"):
            for key in await self._store.document_keys(beginning, "", 200):
                await self._store.drop_document(key)

    def cursor(self, stream: Stream) -> KeptState:
        """How far a stream has been told, as ``services/telling.py`` writes it."""
        return KeptState(self._store, f"ssf/cursor/{stream.id}")

    def authorization(self, stream: Stream) -> str:
        """The header that the stream's endpoint demands, in the clear; "" where it demands none."""
        return self._sealer.open(stream.authorization, _PURPOSE).decode() if stream.authorization else ""

    @staticmethod
    def _state_key(stream: Stream, change: str) -> str:
        return f"ssf/state/{stream.id}/{change}"

    def _kept(self, rule: ReceiverRule) -> KeptState:
        return KeptState(self._store, f"ssf/stream/{rule.name}")

    async def _told_from_now_on(self, stream: Stream) -> None:
        cursor = self.cursor(stream)
        for _ in range(_ATTEMPTS):
            version, _ = await cursor.read()
            if await cursor.write(version, str(await self._store.change_mark())):
                return
        raise Outage("the stream is changed by too many at once", code="stream_busy")

    async def _change(self, rule: ReceiverRule, stream_id: str, what: str, build: Callable[[Stream], Stream]) -> Stream:
        for _ in range(_ATTEMPTS):
            await self.named(rule, stream_id)
            version, text = await self._kept(rule).read()
            stream = _read(text)
            if stream is None:
                raise NotFound("there is no such stream")
            changed = build(stream)
            if changed == stream:
                return stream
            await self._changed(changed, what)
            if await self._kept(rule).write(version, _text(changed)):
                return changed
        raise Outage("the stream is changed by too many at once", code="stream_busy")

    def _wished(self, rule: ReceiverRule, stream: Stream, wish: Wish) -> Stream:
        """The stream as it would be. Raises Mistake, Refusal."""
        method = stream.method if wish.method is None else wish.method
        endpoint = stream.endpoint if wish.endpoint is None else wish.endpoint
        if method not in {PUSH, POLL}:
            raise Mistake("no such delivery method", code="body", hint=f"{PUSH} or {POLL}")
        if method == PUSH and endpoint not in rule.push:
            raise Refusal("this address is not admitted for this receiver", code="address", hint=f"signals.receivers.{rule.name}.push")
        authorization = stream.authorization
        if wish.authorization is not None:
            if len(wish.authorization) > _TEXT_MAX or not (wish.authorization.isascii() and wish.authorization.isprintable()):
                raise Mistake("authorization_header is no header", code="body")
            authorization = self._sealer.seal(wish.authorization.encode(), _PURPOSE) if wish.authorization else ""
        requested = stream.requested if wish.events is None else tuple(dict.fromkeys(wish.events))
        description = stream.description if wish.description is None else wish.description
        if len(requested) > _EVENTS_MAX or len(description) > _TEXT_MAX or any(len(event) > _TEXT_MAX for event in requested):
            raise Mistake("too many events, or very long texts", code="body")
        supported = self.supported(rule)
        return replace(
            stream,
            method=method,
            endpoint=endpoint if method == PUSH else "",
            authorization=authorization if method == PUSH else "",
            requested=requested,
            events=tuple(event for event in supported if event in requested) if requested else supported,
            description=description,
        )

    async def _changed(self, stream: Stream, what: str, change: str = "") -> None:
        body = StreamChanged(
            change=change or self._new_id("change"), receiver=stream.receiver, stream=stream.id, what=what, status=stream.status
        )
        await self._store.append(Append(body=encode(Record(at=self._clock(), body=body))))


def _text(stream: Stream) -> str:
    return msgspec.json.encode(stream).decode()


def _read(text: str) -> Stream | None:
    return msgspec.json.decode(text, type=Stream) if text else None
