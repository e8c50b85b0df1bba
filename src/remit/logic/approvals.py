"""What an approval opens, who may answer a question, and how far an answer goes. Pure.

Rules: an approval opens exactly its call, or the calls of its class: same task, same tool, equal arguments but for those that
an approver has named, so many times, until a time. Nobody answers twice, no agent of the chain answers at all, and by four eyes
neither does the person for whom the task runs or who opened it. Several approvers widen only as far as each of them said.
Left out: who is configured (``logic/consent.py``), what is shown to them (``logic/evidence.py``).
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from remit.errors import Conflict, Mistake, NotFound
from remit.logic.arguments import digest_json
from remit.model.approval import EVERYTHING, Approval, ApprovalState, Widening

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from datetime import datetime, timedelta

    from remit.model.call import Call
    from remit.model.task import Task

_FREE_MAX = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """How far an approver wants to widen: so many calls, for so long (``None``: as long as the question), these arguments free."""

    calls: int = 1
    lasts: timedelta | None = None
    free: tuple[str, ...] = ()

    @property
    def exact(self) -> bool:
        """Whether it widens nothing."""
        return self.calls == 1 and not self.free and self.lasts is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How far an approver may widen. ``calls_max`` 1: not at all."""

    calls_max: int
    lasts_max: timedelta


def granted_approval(task: Task, key: str, call: Call, now: datetime) -> Approval | None:
    """The unused, unexpired consent that opens this call: one to exactly it before one to its class."""
    standing = [
        approval
        for approval in task.approvals.values()
        if approval.state is ApprovalState.GRANTED and approval.call == key and now < approval.expires_at
    ]
    exact = [approval for approval in standing if approval.digest == call.digest]
    if exact:
        return min(exact, key=lambda approval: approval.widened is not None)
    for approval in standing:
        if approval.widened is not None and approval.widened.fixed == fixed_digest(call.arguments, approval.widened.free):
            return approval
    return None


def vouches(approval: Approval, call: Call, pointers: Sequence[str], *, told_max: int) -> bool:
    """Whether a person has seen the values at these places: what an approver left free was seen by nobody.

    Of ``told_max`` places or more some may not have been told, so nothing is vouched for.
    """
    if approval.widened is None or approval.digest == call.digest:
        return True
    free = {*approval.widened.free, ""}
    return EVERYTHING not in free and len(pointers) < told_max and all(argument_of(pointer) not in free for pointer in pointers)


def argument_of(pointer: str) -> str:
    """The top-level argument that a JSON pointer (RFC 6901) leads into; "" for the whole."""
    return pointer.split("/", 2)[1].replace("~1", "/").replace("~0", "~") if pointer.startswith("/") else ""


def fixed_digest(arguments: Mapping[str, Any], free: Collection[str]) -> str:
    """Digest of the arguments that a class holds fast; "" where it holds none."""
    if EVERYTHING in free:
        return ""
    return digest_json({name: value for name, value in arguments.items() if name not in free})


def chain(task: Task) -> frozenset[str]:
    """Names of those who act in a task, and of those who delegated it: they never answer its questions."""
    return frozenset({task.agent.text, task.id, *task.chain, *task.ancestors})


def excluded(task: Task, *, four_eyes: bool) -> frozenset[str]:
    """Names, as ``same_name`` compares them, of those who may not answer questions of a task."""
    persons = (task.on_behalf_of, task.opened_by, task.begun_by) if four_eyes else ()
    return frozenset(same_name(name) for name in (*chain(task), *persons) if name)


def same_name(name: str) -> str:
    """A name as it is compared: in doubt two names are the same person."""
    return unicodedata.normalize("NFKC", name).casefold().strip()


def check_answer(task: Task, approval: str, names: Iterable[str], now: datetime) -> Approval:
    """The open question, if the person of these names may answer it. Raises NotFound, Conflict."""
    question = task.approvals.get(approval)
    if question is None:
        raise NotFound(f"there is no approval {approval[:80]}")
    own = {same_name(name) for name in names}
    if any(same_name(answer.by) in own for answer in question.answers):
        raise Conflict(f"you have answered {approval} already", code="answered", hint="each person answers once")
    if question.state is not ApprovalState.PENDING:
        by = f" by {question.by}" if question.by else ""
        raise Conflict(f"approval {approval} is already {question.state}{by}", code="answered")
    if now >= question.expires_at or task.over or now >= task.deadline:
        raise Conflict(f"approval {approval} has expired", code="expired", hint="the agent asks again, and you get a new question")
    if own & excluded(task, four_eyes=False):
        raise Conflict("an agent cannot approve its own call", code="self_approval")
    if question.four_eyes and own & excluded(task, four_eyes=True):
        raise Conflict(
            "four eyes: whoever a task runs for, or who opened it, does not answer its questions",
            code="self_approval",
            hint="another approver must answer",
        )
    return question


def agreed(
    question: Approval, wish: Wish, arguments: Mapping[str, Any] | None, bounds: Bounds, now: datetime, deadline: datetime
) -> Widening | None:
    """The class that this answer and those before it agree on; ``None``: exactly the call that was asked about, once.

    ``arguments``: of the call, ``None`` where they are not kept. Raises Mistake for a wish beyond the bounds, Conflict where it
    cannot be described any more.
    """
    _check_wish(wish, bounds)
    before = question.widened
    if wish.exact or (question.answers and before is None):
        return None
    calls, free, until = wish.calls, wish.free, now + wish.lasts if wish.lasts is not None else question.expires_at
    if before is not None:  # those who answered before have said how far they go
        calls, free, until = min(calls, before.calls), _common(free, before.free), min(until, before.until)
    until = min(until, deadline)
    if not free:
        return Widening(calls=calls, until=until, fixed=question.digest)
    if EVERYTHING in free:
        return Widening(calls=calls, until=until, free=(EVERYTHING,))
    if arguments is None:
        raise Conflict(
            "the arguments of this call are no longer kept, so no class of calls can be described by them",
            code="details_gone",
            hint="approve exactly this call",
        )
    return Widening(calls=calls, until=until, free=tuple(sorted(free)), fixed=fixed_digest(arguments, free))


def _check_wish(wish: Wish, bounds: Bounds) -> None:
    if bounds.calls_max == 1 and not wish.exact:
        raise Mistake("this configuration admits no classes of calls", code="class", hint="approvals.calls_max in remit.toml")
    if not 1 <= wish.calls <= bounds.calls_max:
        raise Mistake(f"{wish.calls} calls", code="class", hint=f"1 to {bounds.calls_max}: approvals.calls_max in remit.toml")
    if wish.lasts is not None and not wish.lasts.total_seconds() > 0:
        raise Mistake("a class must last for some time", code="class")
    if wish.lasts is not None and wish.lasts > bounds.lasts_max:
        raise Mistake(f"{wish.lasts} is too long", code="class", hint=f"at most {bounds.lasts_max}: approvals.lasts_max in remit.toml")
    if len(wish.free) > _FREE_MAX or not all(wish.free):
        raise Mistake(f"at most {_FREE_MAX} arguments can be named, each by its name", code="class")


def _common(some: tuple[str, ...], others: tuple[str, ...]) -> tuple[str, ...]:
    if EVERYTHING in some:
        return others
    return some if EVERYTHING in others else tuple(sorted({*some} & {*others}))
