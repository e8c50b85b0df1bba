"""Credentials for tasks: minted at first need, sealed, given out again while they are in use.

    terms of the task → quota → *intent recorded* → minted on the target → *issue recorded, sealed* → parts for the server's process

Rules
* The intent is durable before the target is touched, under the mark that the target carries. What a crash leaves of it, the sweeper
  settles (``revocations.py``), never before ``MINT_WINDOW``: until then a mint may still be under way.
* A task that ends or is suspended, itself or by one above, while its credential is being made never gets it: it is revoked by whoever
  made it. Intent and issue are appended only while no task above has moved (``Tasks.holds``); what stood before that goes by
  ``subtrees.py``.
* What it may do on the target is what the task's grant, and all those above, say at that moment (``logic/lease_parts.py``). A task that is
  narrowed meanwhile does not get what was made before.
* Quotas count what lives. Concurrent mints of several nodes may pass one by as many as they are.
* A mint goes on when its caller does not wait for it any more, so that nothing is left in the middle.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from remit.drivers.targets.base import MINT_SECONDS, Minted
from remit.errors import Broken, Conflict, Mistake, NotFound, Outage, Refusal, RemitError, Unauthenticated
from remit.logic.lease_parts import parts_held, scope_of
from remit.logic.leases import exceeding, in_use, usable
from remit.model.lease_record import LeaseIntended, LeaseIssued, LeaseRevoked, LeaseRevoking
from remit.model.record import Body
from remit.services.lease_records import record_lease
from remit.services.task_rows import lease_row

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from remit.drivers.sealing import Sealer
    from remit.drivers.targets.base import Target
    from remit.model.lease import Lease, LeaseTerms
    from remit.model.task import Task
    from remit.services.revocations import Revocations
    from remit.services.targets import Targets
    from remit.services.tasks import Tasks
    from remit.store.database import LeaseRow, Store

_LOG = logging.getLogger("remit")


@dataclass(frozen=True, slots=True, kw_only=True)
class Quotas:
    """Live leases at most; ``task``: ever, so that a task that loops ends."""

    task: int
    agent: int
    target: int


class Leases:
    """Leases of one node."""

    def __init__(
        self,
        tasks: Tasks,
        store: Store,
        targets: Targets,
        revocations: Revocations,
        sealer: Sealer,
        new_lease: Callable[[], str],
        quotas: Quotas,
        clock: Callable[[], datetime],
        learnt: Callable[[Task, Lease, Minted], None] = lambda *_: None,
    ) -> None:
        """``learnt``: hears of every credential before anybody is given it."""
        self._tasks, self._store, self._targets, self._revocations = tasks, store, targets, revocations
        self._sealer, self._new_lease, self._quotas, self._clock = sealer, new_lease, quotas, clock
        self._learnt = learnt
        self._making: dict[tuple[str, str], asyncio.Task[Minted]] = {}
        self._reserved: Counter[str] = Counter()  # intents that are being written
        self._open: dict[str, asyncio.Semaphore] = {}  # mints at a time, by target

    async def have(self, task_id: str, name: str) -> Minted:
        """The credential of a live task under a name of its terms, made where there is none yet.

        Raises Refusal (not granted, quota, the task is not active, the target refuses), NotFound, Outage.
        """
        task = await self._tasks.view(task_id)
        lease = usable(task, name)
        above = await self._tasks.ancestors(task)
        if lease is not None and lease in exceeding(task, above):
            await self._narrowed(task_id, lease)
        elif lease is not None and self._tasks.holds(task, self._clock()):
            row = await self._store.lease(lease.id)
            if row is not None and row.sealed:
                minted = open_credential(self._sealer, row)
                self._learnt(task, lease, minted)
                return minted
        return await self._make(task, name)

    async def rotate(self, lease_id: str, by: str) -> Lease:
        """Make another credential in the place of one in use, which goes when calls under way have had their time (``ROTATION_GRACE``).

        The new lease. Raises NotFound, Conflict (it is not in use), Refusal, Outage; then the old one stays.
        """
        row = await self._store.lease(lease_id)
        if row is None:
            raise NotFound(f"there is no lease {lease_id[:80]}", hint="`remit lease list` shows them")
        task = await self._tasks.view_with(row.task, lambda task: lease_id in task.leases)
        lease = task.leases[lease_id]
        if lease not in in_use(task):
            raise Conflict(f"lease {lease_id} is {'replaced' if lease.replaced_at else lease.state}", code="lease_state")
        made = await self._make(task, lease.name, lease_id, by)
        return (await self._tasks.view(task.id)).leases[made.lease]

    async def _make(self, task: Task, name: str, replaces: str = "", by: str = "") -> Minted:
        """Once for all who want it."""
        key = task.id, name
        making = self._making.get(key)
        if making is None:
            making = self._making[key] = asyncio.create_task(self._made(task, name, replaces, by))
            making.add_done_callback(lambda done: self._making.pop(key, None) and (done.cancelled() or done.exception()))
        return await asyncio.shield(making)

    async def settle(self) -> None:
        """Wait for mints that are under way."""
        while self._making:
            await asyncio.wait(set(self._making.values()))

    async def close(self) -> None:
        """Give up mints that are under way: their intents are durable, and whoever sweeps next settles them."""
        making = list(self._making.values())
        for one in making:
            one.cancel()
        await asyncio.gather(*making, return_exceptions=True)

    async def _made(self, task: Task, name: str, replaces: str, by: str) -> Minted:
        terms = next((one for one in task.terms if one.name == name), None)
        if terms is None:
            raise Refusal(f"the task has no lease {name[:80]!r}", code="lease_not_granted", hint=f"[[lease]] of tasks/{task.type}.toml")
        target = self._targets.get(terms.target)
        if target is None:
            raise Refusal(f"there is no target {terms.target}", code="target_unknown", hint="[targets.NAME] in remit.toml")
        lease = await self._intended(task, terms, replaces, by)
        try:
            minted = await self._minted(target, terms, lease)
        except Exception as error:
            words = error.message if isinstance(error, RemitError) else type(error).__name__
            _LOG.warning("task %s gets no credential on target %s: %s", task.id, terms.target, words)
            await self._not_minted(task.id, lease, error)
            raise _told(error, terms.target) from None
        return await self._issued(task.id, lease, minted)

    async def _intended(self, task: Task, terms: LeaseTerms, replaces: str, by: str) -> Lease:
        """Record the intent. Raises Refusal, Outage."""
        lease_id = self._new_lease()
        mark = self._targets.mark(lease_id)

        def build(task: Task, now: datetime) -> tuple[Body, None]:
            if not self._tasks.holds(task, now):
                raise _not_active(task.id)
            above = self._tasks.lineage(task)
            parts = parts_held(terms, task, above) if above is not None else ()  # not known: this is not appended, but built again
            if terms.parts and not parts and above is not None:
                hint = f"[[lease.part]] in tasks/{task.type}.toml names other tools"
                raise Refusal(f"nothing of lease {terms.name} is for what task {task.id} may call", code="lease_not_granted", hint=hint)
            if replaces and task.leases[replaces] not in in_use(task):
                raise Conflict(f"lease {replaces} has gone meanwhile", code="lease_state")
            if len(task.leases) >= self._quotas.task:
                raise _exceeded("task", self._quotas.task)
            intended = LeaseIntended(lease=lease_id, name=terms.name, target=terms.target, mark=mark, expires_at=task.deadline)
            stands = self._targets.stands(terms.target)
            return replace(intended, replaces=replaces, by=by, stands=stands, parts=list(parts)), None

        places = (f"agent {task.agent.text}", f"target {terms.target}")
        self._reserved.update(places)
        try:
            most = max(self._quotas.agent, self._quotas.target)
            counts = await self._store.lease_counts(task.agent.text, terms.target, most)
            for place, count, quota in zip(places, counts, (self._quotas.agent, self._quotas.target), strict=True):
                if count + self._reserved[place] > quota:
                    raise _exceeded(place.partition(" ")[0], quota)
            task, _ = await self._tasks.change(task.id, build)
        finally:
            self._reserved.subtract(places)
            self._reserved += Counter()  # forget what is at nothing
        return task.leases[lease_id]

    async def _minted(self, target: Target, terms: LeaseTerms, lease: Lease) -> Minted:
        gate = self._open.setdefault(terms.target, asyncio.Semaphore(self._targets.connections(terms.target)))
        try:
            async with asyncio.timeout(MINT_SECONDS), gate:  # the wait counts: the window runs since the intent
                scope = json.loads(scope_of(terms, lease.parts))
                return await target.mint(self._targets.mark(lease.id), scope, lease.expires_at)
        except TimeoutError:
            raise Outage(f"target {terms.target} did not answer in time", code="target_unavailable") from None

    async def _issued(self, task_id: str, lease: Lease, minted: Minted) -> Minted:
        minted = replace(minted, lease=lease.id)
        kept = {"parts": dict(minted.parts), "secret": sorted(minted.secret)}
        sealed = self._sealer.seal(json.dumps(kept).encode(), lease.id)

        def check(task: Task, now: datetime) -> None:
            if not self._tasks.holds(task, now):
                raise _not_active(task_id)
            if lease.id in {one.id for one in exceeding(task, self._tasks.lineage(task) or ())}:
                raise Refusal(f"task {task_id} was narrowed meanwhile", code="task_narrowed", hint=f"`remit task show {task_id}`")

        try:
            task = await record_lease(
                self._tasks, task_id, LeaseIssued(lease=lease.id), lambda task: (lease_row(task, task.leases[lease.id], sealed),), check
            )
        except Refusal as refused:  # one above is suspended, or an agent stopped: nothing has said of this lease yet that it has to go
            await self._not_minted(task_id, lease, refused)
            raise
        except Conflict:  # the task has ended, or was suspended: nobody gets it, and nobody else can still be making it
            task = await self._tasks.view(task_id)
            if lease.id in task.leases and not task.leases[lease.id].live:  # a clock that ran ahead took it for lost
                await self._revocations.once_more(lease)
            self._revocations.begin(task_id, made_here=frozenset({lease.id}))
            raise _not_active(task_id) from None
        self._learnt(task, lease, minted)
        return minted

    async def _narrowed(self, task_id: str, lease: Lease) -> None:
        """A credential that may do more than its task goes at once, not when another one is there."""
        with contextlib.suppress(Conflict):  # it has to go already, or is gone
            await record_lease(self._tasks, task_id, LeaseRevoking(lease=lease.id, by="remit", reason="a task above was narrowed"))
        self._revocations.begin(task_id, claim=True)

    async def _not_minted(self, task_id: str, lease: Lease, error: Exception) -> None:
        """It has to go. Where nothing can have come into being it is settled at once, else when the window has passed."""
        code = error.code if isinstance(error, RemitError) else "fault"
        try:
            await record_lease(self._tasks, task_id, LeaseRevoking(lease=lease.id, by="remit", reason=f"not minted: {code}"))
        except Conflict:
            pass  # the end of the task has made it so
        except Outage:
            return  # the intent is durable: the sweeper comes to it
        if isinstance(error, Outage) and error.unsent:
            with contextlib.suppress(Conflict, Outage):  # the sweeper, otherwise
                await record_lease(self._tasks, task_id, LeaseRevoked(lease=lease.id, absent=True))
        elif isinstance(error, Mistake | Refusal):
            self._revocations.begin(task_id, made_here=frozenset({lease.id}))


def open_credential(sealer: Sealer, row: LeaseRow) -> Minted:
    """The credential of a row. Raises Outage where it does not open any more (other keys)."""
    try:
        kept = json.loads(sealer.open(row.sealed, row.lease))
        return Minted(parts=kept["parts"], secret=frozenset(kept["secret"]), lease=row.lease)
    except Unauthenticated:
        raise Outage(f"lease {row.lease} was sealed with other keys", code="lease_sealed") from None


def _not_active(task: str) -> Refusal:
    return Refusal(f"task {task}, or one above it, is not active", code="task_state", hint=f"`remit task show {task}`")


def _exceeded(what: str, quota: int) -> Refusal:
    return Refusal(
        f"the {what} has its {quota} leases", code="lease_quota", hint=f"[limits] leases_per_{what}; `remit lease list` shows them"
    )


def _told(error: Exception, target: str) -> RemitError:
    """What a caller hears: nothing of the target's own words."""
    if isinstance(error, Mistake):
        return Refusal(error.message, code=error.code, hint=error.hint)
    return error if isinstance(error, RemitError) else Broken(f"the driver of target {target} has a fault: {type(error).__name__}")
