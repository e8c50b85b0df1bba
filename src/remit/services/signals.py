"""Takes in signals of configured transmitters (OpenID SSF 1.0, CAEP 1.0, RISC), however they came: pushed or polled.

Rules
* Recorded, then acted upon, then remembered, and only then accepted: from the moment a transmitter hears yes, no call of what its signal
  concerns is allowed at any door. What a crash leaves open is done again, by the transmitter's next attempt or by ``finish``.
* A token counts once. Ids are kept in the store as long as such a token would be young enough to count, the newest so many of a
  transmitter; a token that comes again is accepted and does nothing.
* Refusals are recorded with their reason, so many a minute; those beyond are counted in the next record. A record holds digests and
  types, nothing of what a token claims.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from remit.errors import Mistake, Outage, RemitError, Unauthenticated
from remit.logic.arguments import digest_bytes, digest_json
from remit.logic.records import encode
from remit.logic.signals import CODES, consequence, read_event_set, short
from remit.logic.subjects import concern_of
from remit.model.record import Record
from remit.model.signal import SSF, Clause, Concern, Concerns, Consequence, SignalFollowed, SignalReceived
from remit.services.sparing import Sparing
from remit.store.database import Append

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from remit.model.record import Body
    from remit.model.signal import EventSet, TransmitterRule
    from remit.services.signal_keys import TransmitterKeys
    from remit.services.taking_back import TakingBack
    from remit.store.database import Store

_LOG = logging.getLogger("remit")
_SEEN, _OPEN = "signal/seen/", "signal/open/"
_UNDER_WAY_MAX, _NAMED_MAX = 64, 1_000
_ABANDONED = timedelta(seconds=60)  # an open signal of that age has nobody who works on it
_PAGE = 1_000


class _Work(msgspec.Struct):
    """What is left to do for a signal, kept until it is done."""

    signal: str
    at: datetime
    concern: list[dict[str, list[str]]]
    consequence: str
    by: str
    reason: str


class Signals:
    """The receiver."""

    def __init__(
        self,
        store: Store,
        taking_back: TakingBack,
        rules: Mapping[str, TransmitterRule],
        keys: Mapping[str, TransmitterKeys],
        clock: Callable[[], datetime],
        new_id: Callable[[str], str],
        *,
        issuer: str,
        bytes_max: int,
        kept_max: int,
    ) -> None:
        """``issuer``: ours, of the tokens that a ``jwt_id`` may name. ``kept_max``: ids remembered of one transmitter."""
        self._store, self._taking_back, self.rules, self._keys = store, taking_back, rules, keys
        self._clock, self._new_id, self._issuer = clock, new_id, issuer
        self.bytes_max, self._kept_max = bytes_max, kept_max
        self._under_way: set[str] = set()
        self._refusals = Sparing()

    def pusher(self, name: str, credential: str) -> TransmitterRule | None:
        """The transmitter of that name, if the credential is its; else nobody, whatever the reason."""
        rule = self.rules.get(name)
        digest = hashlib.sha256(credential.encode("utf-8", "surrogatepass")).digest()
        expected = rule.push_secret_digest if rule is not None and rule.push_secret_digest else bytes(len(digest))
        return rule if hmac.compare_digest(digest, expected) else None

    async def pushed(self, name: str, credential: str, token: bytes) -> None:
        """Take in a pushed token (RFC 8935). Raises Unauthenticated, Mistake (codes of RFC 8935 §2.4), Outage."""
        rule = self.pusher(name, credential)
        if rule is None:
            known = name if name in self.rules else ""
            refusal = "whoever pushed did not prove to be the transmitter"
            await self.refuse(known, "push", Mistake(refusal, code="authentication_failed"))
            raise Unauthenticated("the credential opens nothing here", code="authentication_failed")
        await self.take(rule, token, "push")

    async def take(self, rule: TransmitterRule, token: bytes, via: str) -> None:
        """Take in one token. Raises Mistake (codes of RFC 8935 §2.4), Outage: then nothing was accepted."""
        if len(self._under_way) >= _UNDER_WAY_MAX:
            raise Outage("too many signals at once", code="overload")
        try:
            header, claims = await self._keys[rule.name].open(token, bytes_max=self.bytes_max)
            event = read_event_set(header, claims, issuer=rule.issuer, audience=rule.audience, now=self._clock(), age_max=rule.age_max)
            concern = concern_of(event.subject, rule.persons, rule.concerns, self._issuer)
            subject_digest = digest_json(dict(event.subject))
        except Mistake as mistake:
            refusal = Mistake(mistake.message, code=mistake.code if mistake.code in CODES else "invalid_request")
            await self.refuse(rule.name, via, refusal, token)
            raise refusal from None
        seen = f"{_SEEN}{rule.name}/{event.issued_at:012d}/{digest_bytes(event.jti.encode())}"
        if seen in self._under_way:
            raise Outage("this very token is being taken in", code="overload")
        self._under_way.add(seen)
        try:
            if await self._store.document(seen) is None:
                await self._taken_in(rule, event, concern, (digest_bytes(token), subject_digest), via)
                await self._store.put_document(seen, self._clock().isoformat())
        finally:
            self._under_way.discard(seen)

    async def _taken_in(self, rule: TransmitterRule, event: EventSet, concern: Concern, digests: tuple[str, str], via: str) -> None:
        """Record, act, record what followed."""
        what = consequence(event, rule.events) if concern and not event.event.startswith(SSF) else Consequence.RECORD
        signal = self._new_id("sig")
        work = _Work(
            signal=signal,
            at=self._clock(),
            concern=[_plain(clause) for clause in concern],
            consequence=what.value,
            by=f"signal:{rule.name}",
            reason=f"signal {signal}: {short(event.event)[:120]}",
        )
        kept = f"{_OPEN}{signal}"
        if what is not Consequence.RECORD:
            await self._store.put_document(kept, msgspec.json.encode(work).decode())
        received = SignalReceived(
            signal=signal,
            transmitter=rule.name,
            via=via,
            outcome="accepted",
            jti_digest=digest_bytes(event.jti.encode()),
            event=event.event,
            subject_format=str(event.subject.get("format", ""))[:40],
            subject_digest=digests[1],
            concerns=_kinds(concern),
            consequence=what.value,
            token_digest=digests[0],
            skipped=self._refusals.untold(rule.name),
        )
        await self._append(received)
        if event.event == f"{SSF}stream-updated" and event.claims.get("status") != "enabled":
            _LOG.warning("transmitter %s has stopped its stream: what it takes back is not heard of", rule.name)
        if what is not Consequence.RECORD:
            await self._follow(work)

    async def _follow(self, work: _Work) -> None:
        concern = tuple(Clause(**{kind: frozenset(names) for kind, names in clause.items()}) for clause in work.concern)
        done = await self._taking_back.take_back(concern, Consequence(work.consequence), by=work.by, reason=work.reason)
        followed = SignalFollowed(
            signal=work.signal,
            revoked=len(done.revoked),
            suspended=len(done.suspended),
            tasks=[*done.revoked, *done.suspended][:_NAMED_MAX],
            damaged=len(done.damaged),
            tokens=len(done.tokens),
        )
        await self._append(followed)
        await self._store.drop_document(f"{_OPEN}{work.signal}")
        _LOG.info("%s: %d revoked, %d suspended, %d tokens", work.reason, followed.revoked, followed.suspended, followed.tokens)

    async def finish(self) -> None:
        """Do what a crash or an outage left open. Raises Outage."""
        for key in await self._store.document_keys(_OPEN, "", _PAGE):
            text = await self._store.document(key)
            work = msgspec.json.decode(text, type=_Work) if text else None
            if work is not None and self._clock() - work.at >= _ABANDONED:
                await self._follow(work)

    async def forget(self) -> None:
        """Forget ids of tokens that are too old to count, and the oldest beyond so many. Raises Outage."""
        for rule in self.rules.values():
            beginning, after = f"{_SEEN}{rule.name}/", ""
            keys: list[str] = []
            while page := await self._store.document_keys(beginning, after, _PAGE):
                keys += page
                after = page[-1]
            oldest = int((self._clock() - rule.age_max).timestamp())
            young = f"{beginning}{max(oldest, 0):012d}/"
            for number, key in enumerate(keys):
                if key < young or len(keys) - number > self._kept_max:
                    await self._store.drop_document(key)

    async def refuse(self, name: str, via: str, refusal: RemitError, token: bytes = b"") -> None:
        """Record a refusal, unless there were very many."""
        skipped = self._refusals.admit(name, self._clock())
        if skipped is None:
            return
        received = SignalReceived(
            signal=self._new_id("sig"),
            transmitter=name,
            via=via,
            outcome="refused",
            why=f"{refusal.code}: {refusal.message}"[:300],
            token_digest=digest_bytes(token) if token else "",
            skipped=skipped,
        )
        await self._append(received)

    async def _append(self, body: Body) -> None:
        await self._store.append(Append(body=encode(Record(at=self._clock(), body=body))))


def _plain(clause: Clause) -> dict[str, list[str]]:
    return {kind: sorted(getattr(clause, kind)) for kind in ("persons", "agents", "tasks", "tokens")}


def _kinds(concern: Concern) -> list[str]:
    found = {Concerns.PERSON: "persons", Concerns.AGENT: "agents", Concerns.TASK: "tasks", Concerns.TOKEN: "tokens"}
    return sorted(kind.value for kind, field in found.items() if any(getattr(clause, field) for clause in concern))


def poll_answer(found: Any) -> tuple[dict[str, str], bool]:
    """Tokens by id, and whether there are more, of an answer to a poll (RFC 8936 §2.3). Raises Mistake."""
    sets = found.get("sets") if isinstance(found, dict) else None
    if not isinstance(sets, dict) or not all(isinstance(token, str) for token in sets.values()):
        raise Mistake("the answer to a poll has no sets", code="invalid_request")
    return sets, found.get("moreAvailable") is True
