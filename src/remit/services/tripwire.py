"""Looks for leased secrets in all that a task says and hears, and acts at once where one is found.

    learnt when it is minted, or read from its sealed row → looked for in each message → *found recorded* → leases go, task suspended

Rules
* Looked for are the secrets of the task's own leases, while they live, and those of the agent's other tasks and of the other tasks of its
  delegation tree, as far as this process has given them out (``OTHERS_MAX`` of each, the newest).
* One record both tells of it and suspends (``logic/life.py``): between two of them a call would still be allowed. Where the secret is
  another task's, that one is suspended as well. What follows on the target begins at once.
* A task without leases, of an agent and a tree without any, pays a look into three tables. A long text is looked through beside the loop.
* Left out: what ``logic/tripwire.py`` leaves out, and other agents' secrets.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from remit.logic.tripwire import Tripwire, searchable
from remit.model.task import TaskState
from remit.model.tripwire import Leak, Place, SecretFound

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from remit.drivers.targets.base import Minted
    from remit.model.lease import Lease
    from remit.model.record import Body
    from remit.model.task import Task
    from remit.services.tasks import Tasks
    from remit.store.database import LeaseRow, Store

OTHERS_MAX = 50
_KNOWN_MAX = 10_000
_WIRES_MAX = 1_000
_BESIDE_BYTES = 65_536
_LOG = logging.getLogger("remit")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """A lease whose secret this process has. ``near``: who else's messages are looked through for it. ``values``: none holds another."""

    leak: Leak
    near: tuple[str, str]
    expires_at: datetime
    values: tuple[str, ...] = field(repr=False)


class Tripwires:
    """Leased secrets that one process knows."""

    def __init__(
        self,
        tasks: Tasks,
        store: Store,
        opened: Callable[[LeaseRow], Minted],
        clock: Callable[[], datetime],
        follow: Callable[[str], None] = lambda _: None,
    ) -> None:
        """``opened``: the credential of a row that has one; raises Outage. ``follow``: begins to revoke what has to go of a task."""
        self._tasks, self._store, self._opened, self._clock, self._follow = tasks, store, opened, clock, follow
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._near: dict[str, OrderedDict[str, None]] = {}
        self._wires: OrderedDict[frozenset[str], Tripwire] = OrderedDict()
        self._log_wire: Tripwire | None = None

    def learn(self, task: Task, lease: Lease, minted: Minted) -> None:
        """A credential was made, or read from its row."""
        leak = Leak(lease=lease.id, name=lease.name, task=task.id)
        values = _least(minted.parts[part] for part in minted.secret)
        known = self._known[lease.id] = _Known(leak=leak, near=_near(task), expires_at=lease.expires_at, values=values)
        for place in known.near:
            self._near.setdefault(place, OrderedDict())[lease.id] = None
        self._log_wire = None
        if len(self._known) > _KNOWN_MAX:
            self._drop(next(iter(self._known)))

    async def forget(self, task_id: str) -> None:
        """Forget a task's secrets that open nothing any more. Raises NotFound, Outage."""
        of_task = [lease for lease, known in self._known.items() if known.leak.task == task_id]
        if of_task:
            task = await self._tasks.view(task_id)
            for lease in of_task:
                if lease not in task.leases or not task.leases[lease].live:
                    self._drop(lease)

    def look(self, value: Any) -> Look:
        """Begin to look through a JSON value."""
        return Look(self, value)

    async def passes(self, task_id: str, message: Any) -> bool:
        """Whether a message beside a task's calls holds no secret; else all has been done about it. Raises Outage."""
        task = await self._tasks.view(task_id)
        if not self.needed(task):
            return True
        look = self.look(message)
        await look.again(task)
        if not look.leaks:
            return True
        await self.caught(task_id, look.leaks, Place.MESSAGE)
        return False

    async def caught(self, task_id: str, leaks: tuple[Leak, ...], place: Place, decision: str = "") -> None:
        """Record it: the task, and those whose secrets they are, are suspended. Raises Outage."""
        names = ", ".join(sorted({leak.name for leak in leaks}))
        _LOG.error("a credential of lease %s was found in %s of task %s, and stopped; the task is suspended", names, place, task_id)
        for one in (task_id, *sorted({leak.task for leak in leaks} - {task_id})):
            told = [leak for leak in leaks if one in {task_id, leak.task}]
            found = SecretFound(
                names=[leak.name for leak in told],
                leases=[leak.lease for leak in told],
                place=(place if one == task_id else Place.ELSEWHERE).value,
                decision=decision if one == task_id else "",
            )
            with contextlib.suppress(_NothingToDoError):
                await self._tasks.change(one, functools.partial(_build, found))
            self._follow(one)

    def scrubbed(self, text: str) -> str:
        """A text for a log, without what this process knows to be secret."""
        if not self._known:
            return text
        if self._log_wire is None:
            self._log_wire = Tripwire((lease, value) for lease, known in list(self._known.items()) for value in known.values)
        return self._log_wire.scrubbed(text)

    def needed(self, task: Task) -> frozenset[str]:
        """The leases whose secrets are to be looked for on behalf of a task."""
        others = [found for place in _near(task) if (found := self._near.get(place))] if self._near else []
        if not task.leases and not others:
            return frozenset()
        own = (lease.id for lease in task.leases.values() if lease.live and lease.issued_at is not None)
        return frozenset((*own, *(lease for found in others for lease in self._others(task, found))))

    async def found(self, task: Task, leases: frozenset[str], value: Any) -> tuple[Leak, ...]:
        """Which of these stand in a value. Raises Outage where one cannot be known."""
        known = {lease: one for lease in sorted(leases) if (one := self._known.get(lease) or await self._read(task, lease)) is not None}
        wire = self._wire(known)
        if _is_long(value):
            names = await asyncio.to_thread(wire.found, value)
        else:
            names = wire.found(value)
        return tuple([known[name].leak for name in names if await self._alive(task, known[name].leak)])

    async def _read(self, task: Task, lease_id: str) -> _Known | None:
        """One that another process minted, or an earlier life of this one."""
        row = await self._store.lease(lease_id) if lease_id in task.leases else None
        if row is None or not row.sealed:
            return None  # gone meanwhile
        self.learn(task, task.leases[lease_id], self._opened(row))
        return self._known[lease_id]

    async def _alive(self, task: Task, leak: Leak) -> bool:
        """Whether a secret that was found still opens anything."""
        if leak.task == task.id:
            return True
        owner = await self._tasks.view(leak.task)
        if leak.lease in owner.leases and owner.leases[leak.lease].live:
            return True
        self._drop(leak.lease)
        return False

    def _others(self, task: Task, leases: Iterable[str]) -> list[str]:
        """Secrets of other tasks, the newest; those that their targets have ended by themselves are forgotten."""
        now, kept = self._clock(), list[str]()
        for lease in list(leases):
            known = self._known.get(lease)
            if known is None or known.leak.task == task.id:
                continue
            if known.expires_at <= now:
                self._drop(lease)
            else:
                kept.append(lease)
        return kept[-OTHERS_MAX:]

    def _wire(self, known: dict[str, _Known]) -> Tripwire:
        key = frozenset(known)
        wire = self._wires.get(key)
        if wire is None:
            wire = self._wires[key] = Tripwire((lease, value) for lease, one in known.items() for value in one.values)
            if len(self._wires) > _WIRES_MAX:
                self._wires.popitem(last=False)
        self._wires.move_to_end(key)
        return wire

    def _drop(self, lease: str) -> None:
        known = self._known.pop(lease, None)
        if known is None:
            return
        for place in known.near:
            here = self._near.get(place, OrderedDict())
            here.pop(lease, None)
            if not here:
                self._near.pop(place, None)
        for key in [key for key in self._wires if lease in key]:
            del self._wires[key]
        self._log_wire = None


class Look:
    """One value, looked through for as many secrets as there have come to be."""

    __slots__ = ("_looked", "_value", "_wires", "leaks")

    def __init__(self, wires: Tripwires, value: Any) -> None:
        self._wires, self._value, self._looked = wires, value, frozenset[str]()
        self.leaks: tuple[Leak, ...] = ()

    def behind(self, task: Task) -> bool:
        """Whether the task, as it is now, has secrets that were not looked for."""
        return not self._wires.needed(task) <= self._looked

    async def again(self, task: Task) -> None:
        """Look for those as well. Raises Outage."""
        needed = self._wires.needed(task)
        self.leaks = await self._wires.found(task, needed, self._value)
        self._looked = needed


class _NothingToDoError(Exception):
    """Leaves a build of a task that is not active: nothing of it can be used."""


def _build(found: SecretFound, task: Task, _: datetime) -> tuple[Body, None]:
    if task.state is not TaskState.ACTIVE:
        raise _NothingToDoError
    return found, None


def _is_long(value: Any) -> bool:
    """Whether looking through it would hold others up; what cannot be measured is."""
    try:
        return len(msgspec.json.encode(value)) > _BESIDE_BYTES
    except (msgspec.MsgspecError, OverflowError, RecursionError, TypeError, ValueError):
        return True


def _near(task: Task) -> tuple[str, str]:
    """The agent and the root of the tree: tasks that share one of them are looked after together."""
    return task.agent.text, task.ancestors[-1] if task.ancestors else task.id


def _least(values: Iterable[str]) -> tuple[str, ...]:
    """Without those that hold another one: where that is found, this is."""
    long = sorted({value for value in values if searchable(value)}, key=len)
    kept: list[str] = []
    for value in long:
        if not any(other in value for other in kept):
            kept.append(value)
    return tuple(kept)
