"""A delegation in the words of the wire: ``POST /v1/tasks/{task}/children`` and ``task.delegate`` in Python. Translates; decides nothing.

The parent's agent presents its task token. The agent that gets the child may ask itself: it presents the parent's task token and, as
``actor_token`` (RFC 8693 §2.1), its own JWT-SVID; then the answer holds the child's token. Otherwise that agent fetches its token with its
own proof (``POST /v1/tasks/{child}/token``): a parent never holds the token of its child.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from remit.services.delegation_words import wanted_of
from remit.wire import OWN_TASK

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

    from remit.model.task import Task
    from remit.model.token import Presented
    from remit.services.presenting import Presenting
    from remit.wire import DelegateTask


async def delegate(
    presenting: Presenting, proof: Presented, task: str, read: Callable[[], Awaitable[DelegateTask]]
) -> tuple[Task, tuple[str, datetime] | None]:
    """The child, and its token where its own agent asked. ``task``: of the path. Raises Unauthenticated, Refusal, Mistake, Outage."""
    bearer = await presenting.subject(proof)
    words = await read()
    return await presenting.delegate(bearer, words.actor_token, wanted_of(words), parent="" if task == OWN_TASK else task)
