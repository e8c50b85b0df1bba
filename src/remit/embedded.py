"""``remit.open``: a whole node inside a program. Its door is the one behind the HTTP routes, without the socket.

Rules: the program that opens a folder can read its keys, so it is believed when it names an agent; the ledger says who vouched.
"""

from __future__ import annotations

import contextlib
import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from remit.errors import Broken, Mistake, RemitError
from remit.node import open_node
from remit.services.reading import FILE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine

    from remit.doors.api.tasks import TaskDoor
    from remit.node import Node
    from remit.wire import AuthorizeCall, DecisionView, DelegateTask, ObserveCall, OpenTask, ReportManifest, TaskView, TokenView

T = TypeVar("T")
_LOG = logging.getLogger("remit")


class EmbeddedDoor:
    """A node's own door (``sdk/session.Door``)."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._door: TaskDoor = replace(node.door, unbound_is_well=True)

    async def prove(self, agent: str) -> str:
        """A JWT-SVID of a declared agent; of the only one where none is named. Raises NotFound, Mistake, Outage."""
        names = sorted(self._node.rules.configuration.agents)
        if not agent and len(names) != 1:
            raise Mistake(
                "say which agent works on the task", code="agent", hint=f"agent= one of: {', '.join(names) or 'none is declared'}"
            )
        return await self._node.identities.issue_svid(agent or names[0], attested=f"opened in process {os.getpid()} of uid {os.geteuid()}")

    async def open(self, proof: str, wanted: OpenTask) -> TaskView:
        """As ``TaskDoor.open``."""
        return await _sound(self._door.open(proof, _given(wanted)))

    async def delegate(self, proof: str, task: str, wanted: DelegateTask) -> TaskView:
        """As ``TaskDoor.delegate``."""
        return await _sound(self._door.delegate(proof, task, _given(wanted)))

    async def show(self, proof: str, task: str) -> TaskView:
        """As ``TaskDoor.show``."""
        return await _sound(self._door.show(proof, task))

    async def renew(self, proof: str, task: str) -> TokenView:
        """As ``TaskDoor.renew``."""
        return await _sound(self._door.renew(proof, task))

    async def complete(self, proof: str, task: str) -> TaskView:
        """As ``TaskDoor.complete``."""
        return await _sound(self._door.complete(proof, task))

    async def manifest(self, token: str, task: str, told: ReportManifest) -> TaskView:
        """As ``TaskDoor.manifest``."""
        return await _sound(self._door.manifest(token, task, _given(told)))

    async def authorize(self, token: str, task: str, wanted: AuthorizeCall) -> DecisionView:
        """As ``TaskDoor.authorize``."""
        return await _sound(self._door.authorize(token, task, _given(wanted)))

    async def observe(self, token: str, task: str, told: ObserveCall) -> None:
        """As ``TaskDoor.observe``."""
        await _sound(self._door.observe(token, task, _given(told)))


def _given(words: T) -> Callable[[], Awaitable[T]]:
    """What the door reads once it knows who speaks: here it is there already."""

    async def read() -> T:
        return words

    return read


async def _sound(work: Coroutine[Any, Any, T]) -> T:
    """What leaves is an answer or an error of the tree; a fault is told in the log, as behind HTTP."""
    try:
        return await work
    except RemitError:
        raise
    except Exception as error:
        _LOG.error("a fault of remit", exc_info=error)
        raise Broken("remit has a fault; its log says more") from None


def folder_of(path: str | os.PathLike[str]) -> Path:
    """The working folder that is meant by itself or by its ``remit.toml``. Raises Mistake."""
    where = Path(path)
    if where.name == FILE:
        where = where.parent
    if not where.is_dir():
        raise Mistake(f"there is no working folder {str(where)[:200]!r}", code="configuration", hint="`remit init` makes one")
    return where.resolve()


@contextlib.asynccontextmanager
async def embedded(path: str | os.PathLike[str]) -> AsyncIterator[EmbeddedDoor]:
    """A running node on a folder. Raises Mistake, Outage."""
    async with open_node(folder_of(path), deciding=True) as node:
        node.start()
        yield EmbeddedDoor(node)
