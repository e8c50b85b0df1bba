"""Searches of the decision API: who may, on what, and which actions.

Rules: candidates are those that are known, each is evaluated, and only what would be allowed now is found; a page ends after so
many candidates looked at or hits found. Unknown entities and types find nothing. Pages are no snapshot. A page's token says where
to go on and for which search; it opens nothing, so it is not secret, and one that does not fit is refused. A search decides
nothing; that it was made is recorded before its answer.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import msgspec

from remit.errors import Mistake
from remit.logic.arguments import digest_json
from remit.logic.task_questions import METHODS, TASK_BOUND, could_call, granted, is_call, named_arguments, named_call
from remit.model.access import Caller, Entity, Question, Sought
from remit.model.catalog import Kind
from remit.model.identity import Bearer
from remit.model.record import AccessSearched

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from datetime import datetime

    from remit.logic.applications import Application
    from remit.logic.rulebook import Rulebook
    from remit.model.task import Task
    from remit.services.access import Access
    from remit.services.mediation import Mediation

Json = dict[str, Any]
_AGENT_TYPES = frozenset({"agent", "workload", "identity"})
_BREATH = 64
_TOKEN_CHARACTERS_MAX = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What is wanted of the results. ``limit`` 0: as many as we give at once."""

    token: str = ""
    limit: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """``results`` as they are sent; ``next_token`` "" : the end."""

    results: tuple[Json, ...]
    next_token: str = ""


class AccessSearch:
    """Answers searches."""

    def __init__(
        self, access: Access, mediation: Mediation, rulebook: Callable[[], Rulebook], clock: Callable[[], datetime], *, page_max: int
    ) -> None:
        """``page_max``: candidates looked at for one answer."""
        self._access, self._mediation, self._rulebook, self._clock, self._page_max = access, mediation, rulebook, clock, page_max

    async def search(self, caller: Caller, sought: Sought, question: Question, page: Page) -> Found:
        """Find. What is sought is empty in the question, but for its type. Raises Refusal, Mistake, Outage."""
        key = _key(sought, question, page.limit)
        start = _start(page.token, key)
        application, task = None, None
        if question.resource.type in TASK_BOUND:
            task = await self._access.task(caller, question.context)
            candidates = self._of_task(caller, sought, question, task) if task else []
        else:
            application = self._access.application(caller, question.subject.type, question.resource.type)
            candidates = self._of_application(application, sought, question) if application else []
        results, end = await self._allowed(candidates, start, min(page.limit or self._page_max, self._page_max))
        body = AccessSearched(
            caller=caller.name,
            sought=sought.value,
            application=application.name if application else "",
            task=task.id if task else "",
            subject_type=question.subject.type,
            subject=question.subject.id,
            action=question.action,
            resource_type=question.resource.type,
            resource=question.resource.id,
            found=len(results),
        )
        await self._access.searched(body)
        return Found(results=tuple(results), next_token=_token(end, key) if end < len(candidates) else "")

    async def _allowed(self, candidates: Sequence[_Candidate], start: int, limit: int) -> tuple[list[Json], int]:
        """Hits from ``start``, and where to go on."""
        results: list[Json] = []
        position = min(start, len(candidates))
        last = min(position + self._page_max, len(candidates))
        while position < last and len(results) < limit:
            candidate = candidates[position]
            position += 1
            if await candidate.allowed():
                results.append(candidate.shown)
            if position % _BREATH == 0:
                await asyncio.sleep(0)
        return results, position

    def _of_application(self, application: Application, sought: Sought, question: Question) -> list[_Candidate]:
        given = {Sought.SUBJECT: question.subject, Sought.RESOURCE: question.resource}
        given.pop(sought, None)
        if not all(application.knows(entity) for entity in given.values()) or self._access.is_agent(question.subject):
            return []
        now = self._clock()

        def candidate(asked: Question, shown: Json) -> _Candidate:
            async def allowed() -> bool:
                return application.evaluate(asked, now).allowed

            return _Candidate(allowed, shown)

        if sought is Sought.ACTION:
            return [candidate(replace(question, action=name), {"name": name}) for name in application.actions]
        subject = sought is Sought.SUBJECT
        entity = question.subject if subject else question.resource
        known = application.known(entity.type, entity.properties)
        return [
            candidate(replace(question, subject=one) if subject else replace(question, resource=one), {"type": one.type, "id": one.id})
            for one in known
        ]

    def _of_task(self, caller: Caller, sought: Sought, question: Question, task: Task) -> list[_Candidate]:
        kind = Kind(question.resource.type)
        if sought is not Sought.ACTION and not is_call(kind, question.action):
            return []
        if sought is Sought.SUBJECT:
            if question.subject.type not in _AGENT_TYPES:
                return []
            return [self._could(question.resource, question, task, {"type": question.subject.type, "id": task.agent.text})]
        if self._access.speaker(caller, question.subject.id, question.context, task) != task.agent:
            return []
        if sought is Sought.ACTION:
            return [self._could(question.resource, question, task, {"name": METHODS[kind]})]
        return [
            self._could(Entity(type=kind.value, id=name), question, task, {"type": kind.value, "id": name})
            for name in granted(task, kind, self._rulebook().pinned)
        ]

    def _could(self, resource: Entity, question: Question, task: Task, shown: Json) -> _Candidate:
        call = named_call(resource, question.action_properties, question.context)
        known = resource.type != Kind.TOOL or named_arguments(resource, question.action_properties, question.context) is not None
        bearer = Bearer(agent=task.agent, task=task.id, proof="authzen")

        async def allowed() -> bool:
            facts, policies = await self._mediation.look(bearer, call, task, self._clock())
            return could_call(facts, policies, arguments_known=known)

        return _Candidate(allowed, shown)


@dataclass(frozen=True, slots=True)
class _Candidate:
    allowed: Callable[[], Awaitable[bool]]
    shown: Json


def _key(sought: Sought, question: Question, limit: int) -> str:
    """What every page of one search has in common."""
    entities = [[one.type, one.id, one.properties] for one in (question.subject, question.resource)]
    return digest_json([sought.value, entities, question.action, question.action_properties, question.context, limit])


def _token(position: int, key: str) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode([position, key])).rstrip(b"=").decode()


def _start(token: str, key: str) -> int:
    if not token:
        return 0
    try:
        if len(token) > _TOKEN_CHARACTERS_MAX:
            raise ValueError
        position, of = msgspec.json.decode(
            base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True), type=tuple[int, str]
        )
    except (ValueError, binascii.Error, msgspec.MsgspecError):
        raise Mistake("page.token is none of ours", code="page_token") from None
    if of != key or position < 0:
        raise Mistake("page.token is of another search: everything else must be as in the first request", code="page_token")
    return position
