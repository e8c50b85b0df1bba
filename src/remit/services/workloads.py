"""SVIDs for the processes of this machine: which agent a process is, and what it is given.

Rules: the kernel's word against ``[agents.NAME.attest]``, at every request anew; nothing matches by default. An SVID
is in the ledger, with what attested it, before it leaves. A process of ``remit run`` gets none while its task is not active, and none that
lasts longer. Issues are bounded for each account; refusals of one process are recorded once a minute. Outside, a refusal never says why.
"""

from __future__ import annotations

import json
import secrets
from collections import OrderedDict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from remit.errors import Mistake, NotFound, Outage, Refusal
from remit.logic.attestation import attested, told
from remit.logic.claims import SVID_TYPE, check_svid, svid_claims
from remit.logic.records import encode
from remit.model.record import Body, Record
from remit.model.svid import DomainKeys, JwtSvid, X509Svid
from remit.model.task import TaskState
from remit.model.token_record import TokenIssued, TokenRefused
from remit.store.database import Append

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from remit.drivers.signing import TokenSigner
    from remit.model.attestation import Process, ProcessRule
    from remit.model.identity import SpiffeId
    from remit.model.task import Task
    from remit.services.authority import Authority
    from remit.services.tasks import Tasks
    from remit.store.database import Store

AUDIENCES_MAX = 16
AUDIENCE_CHARACTERS_MAX = 512
_SERIAL_BITS = 158  # RFC 5280 §4.1.2.2: at most 20 octets, positive
_MINUTE = timedelta(minutes=1)
_REMEMBERED_MAX = 1_000
_NO_IDENTITY = "no identity is issued to this process"


class Workloads:
    """Issues to attested processes."""

    def __init__(
        self,
        store: Store,
        authority: Authority,
        signer: TokenSigner,
        tasks: Tasks,
        clock: Callable[[], datetime],
        new_id: Callable[[str], str],
        *,
        trust_domain: str,
        svid_ttl: timedelta,
        agents: Callable[[], Mapping[str, tuple[SpiffeId, ProcessRule]]],
        issues_per_minute: int,
    ) -> None:
        """``agents``: declared names, their SPIFFE IDs and rules, as configured now."""
        self._store, self._authority, self._signer, self._tasks = store, authority, signer, tasks
        self._clock, self._new_id = clock, new_id
        self._trust_domain, self._svid_ttl, self._agents, self._issues_max = trust_domain, svid_ttl, agents, issues_per_minute
        self._issued: dict[int, tuple[datetime, int]] = {}
        self._refused: OrderedDict[tuple[int, int, str], datetime] = OrderedDict()

    @property
    def process_rules(self) -> dict[str, ProcessRule]:
        """Of all declared agents, as configured now."""
        return {name: rule for name, (_, rule) in self._agents().items()}

    async def identity(self, process: Process) -> SpiffeId:
        """Whose process it is, now. Raises Refusal, Outage."""
        return (await self._entitled(process))[1]

    async def x509_svid(self, process: Process) -> tuple[str, X509Svid]:
        """The agent's name, and an X.509-SVID with a key of its own. Raises Refusal, Outage."""
        now, (name, spiffe_id, ends) = self._clock(), await self._entitled(process)
        self._count(process.uid, now)
        serial = secrets.randbits(_SERIAL_BITS) | 1
        await self._record(spiffe_id, "x509-svid", f"{serial:x}", ends, process)
        return name, await self._authority.issue(spiffe_id, serial, now, ends)

    async def jwt_svid(self, process: Process, audiences: Sequence[str], wanted: str = "") -> tuple[str, JwtSvid]:
        """The agent's name, and a JWT-SVID for the audiences. ``wanted``: the SPIFFE ID it is asked for, if any.

        Raises Mistake for no or too many audiences, Refusal, Outage.
        """
        names = list(dict.fromkeys(audiences))
        if not 0 < len(names) <= AUDIENCES_MAX or not all(0 < len(one) <= AUDIENCE_CHARACTERS_MAX for one in names):
            raise Mistake(f"name 1 to {AUDIENCES_MAX} audiences", code="audience")
        now, (name, spiffe_id, ends) = self._clock(), await self._entitled(process)
        if wanted not in {"", spiffe_id.text}:
            await self._refuse(process, f"the process is {spiffe_id} and asked for another identity", now)
        self._count(process.uid, now)
        jti = self._new_id("svid")
        await self._record(spiffe_id, "jwt-svid", jti, ends, process)
        claims = {**svid_claims(spiffe_id, names[0], now, ends - now, jti), "aud": names}
        return name, JwtSvid(spiffe_id=spiffe_id, token=self._signer.sign(claims, SVID_TYPE), expires_at=ends)

    async def keys(self, process: Process) -> DomainKeys:
        """What verifiers need, for a process that has an identity. Raises Refusal, Outage."""
        await self._entitled(process)
        return await self._authority.keys()

    async def validate(self, process: Process, audience: str, token: str) -> tuple[SpiffeId, dict[str, Any]]:
        """Whom a JWT-SVID of this trust domain proves to an audience, and its claims. Raises Unauthenticated, Refusal, Outage."""
        await self._entitled(process)
        header, claims = self._signer.open(token)
        workload = check_svid(header, claims, self._trust_domain, audience, self._clock())
        return workload.agent, json.loads(json.dumps(claims))

    async def _entitled(self, process: Process) -> tuple[str, SpiffeId, datetime]:
        """The agent's name, its SPIFFE ID, and until when an SVID issued now may last, in whole seconds."""
        now = self._clock()
        agents = self._agents()
        name = attested({one: rule for one, (_, rule) in agents.items()}, process)
        if name is None:
            await self._refuse(process, "the process is no agent's", now)
        ends = now + self._svid_ttl
        if process.run is not None:
            ends = min(ends, await self._until(process, now))
        return name, agents[name][0], ends.replace(microsecond=0)

    async def _until(self, process: Process, now: datetime) -> datetime:
        """The deadline of the task that the process was started for."""
        task_id = process.run.task if process.run else ""
        try:
            task = await self._tasks.view(task_id)
        except NotFound:
            await self._refuse(process, f"there is no task {task_id}", now)
        if task.state is not TaskState.ACTIVE or now >= task.deadline - timedelta(seconds=1):
            await self._refuse(process, f"task {task_id} is not active", now)
        return task.deadline.astimezone(UTC)

    def _count(self, uid: int, now: datetime) -> None:
        since, count = self._issued.get(uid, (now, 0))
        if now - since >= _MINUTE:
            since, count = now, 0
        if count >= self._issues_max:
            raise Outage("this account has been issued too many SVIDs in a minute", code="overload", retry_after_seconds=60)
        if uid not in self._issued and len(self._issued) >= _REMEMBERED_MAX:
            self._issued = {one: seen for one, seen in self._issued.items() if now - seen[0] < _MINUTE}
        self._issued[uid] = since, count + 1

    async def _record(self, spiffe_id: SpiffeId, use: str, jti: str, ends: datetime, process: Process) -> None:
        issued = TokenIssued(agent=spiffe_id.text, use=use, jti=jti, expires_at=ends, subject_proof=told(process))
        if process.run is None:
            await self._tasks.standing.append(spiffe_id.text, lambda _now: issued)
            return

        def build(task: Task, at: datetime) -> tuple[Body, None]:
            stopped = self._tasks.standing.stopped([spiffe_id.text, *task.chain])
            if task.state is not TaskState.ACTIVE or at >= task.deadline or stopped:
                raise Refusal(_NO_IDENTITY, code="no_identity")
            return issued, None

        await self._tasks.change(process.run.task, build)  # compare and swap: none is issued after the task's end

    async def _refuse(self, process: Process, why: str, now: datetime) -> NoReturn:
        """Record it, not more than once a minute, and refuse."""
        key = process.uid, process.pid, why
        before = self._refused.pop(key, None)
        recent = before is not None and now - before < _MINUTE
        self._refused[key] = before if recent and before is not None else now
        if len(self._refused) > _REMEMBERED_MAX:
            self._refused.popitem(last=False)
        if not recent:
            refused = TokenRefused(why=why, claimed=told(process))
            await self._store.append(Append(body=encode(Record(at=now, body=refused))))
        raise Refusal(_NO_IDENTITY, code="no_identity")
