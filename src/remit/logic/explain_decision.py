"""One decision explained: the facts it fell on, which key refused, which policies spoke, and what would change the answer.

Rules: what would change the answer is not guessed. Each change is made to the facts (or to the policies) and the same ``authorize``
is asked again; told are the single changes that alter the outcome, and where none does, the pairs. A change that needs the arguments
is tried only where they are known.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import combinations
from typing import TYPE_CHECKING

from remit.logic.authorize import authorize, call_key
from remit.logic.replay import BY_ARGUMENTS, BY_ORIGIN, BY_POLICY, decide_again, outcome_of
from remit.logic.tracing import explained
from remit.model.approval import Approval, ApprovalState
from remit.model.catalog import Kind, Trust
from remit.model.decision import Code, Decision
from remit.model.grant import Grant
from remit.model.labels import Labels
from remit.model.origin import Source, SourceKind, Traced
from remit.model.task import TaskState, amended

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from remit.logic.policy import Policies
    from remit.model.call_record import CallDecided
    from remit.model.facts import Facts

World = tuple["Facts", "Policies"]
_ORDER = {"deny": 0, "ask": 1, "allow": 2}
_CHANGES_MAX = 24
_ORIGINS_MAX = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Something that could be otherwise, in words, and what the answer would then be."""

    what: str
    would_be: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """``refused_by``: the keys that did not turn (task, tool, grant, policy). ``facts``: name → value, for people."""

    outcome: str
    reasons: tuple[str, ...]
    refused_by: tuple[str, ...]
    policies: tuple[str, ...]
    facts: dict[str, str]
    origins: tuple[str, ...]
    changes: tuple[Change, ...]
    missing: str = ""


def explain(facts: Facts, policies: Policies, body: CallDecided, *, whole: bool) -> Explanation:
    """Explain a recorded decision. ``whole``: the facts hold the arguments."""
    decision, missing = decide_again(facts, policies, body, whole=whole)
    places = {policy.id: str(policy.place) for policy in policies.parts}
    texts = (
        tuple(f"{reason.where}: {reason.text}" if reason.where.startswith("/") else reason.text for reason in decision.reasons)
        if decision
        else ()
    )
    return Explanation(
        outcome=body.outcome,
        reasons=texts or tuple(line.code for line in body.reasons),
        refused_by=_keys(body) if body.outcome != "allow" else (),
        policies=tuple(f"{policy} ({places.get(policy, 'no longer known')})" for policy in body.policies),
        facts=_facts(facts, body),
        origins=tuple(explained(leaf) for leaf in (*facts.origins, *facts.references)[:_ORIGINS_MAX]),
        changes=_changes(facts, policies, body) if whole else (),
        missing=missing or ("" if whole else "values were not kept, so what would change the answer cannot be tried"),
    )


def _keys(body: CallDecided) -> tuple[str, ...]:
    keys = []
    for code in (Code(line.code) for line in body.reasons):
        if code in BY_POLICY:
            keys.append("policy")
        elif code in BY_ARGUMENTS | BY_ORIGIN or code in {Code.NOT_GRANTED, Code.USES_EXHAUSTED}:
            keys.append("grant")
        elif code in {Code.TOOL_UNKNOWN, Code.TOOL_CHANGED}:
            keys.append("tool")
        else:
            keys.append("task")
    return tuple(dict.fromkeys(keys))


def _facts(facts: Facts, body: CallDecided) -> dict[str, str]:
    task, tool, classes = facts.task, facts.tool, facts.classes
    told = {
        "at": facts.now.isoformat(timespec="seconds"),
        "task": f"{task.id} ({task.type}), {task.state}, for {task.on_behalf_of}",
        "agent": body.agent if facts.agent == task.agent else f"{body.agent} (the task is of {task.agent})",
        "call": f"{facts.call.kind} {facts.call.id}",
        "arguments": body.arguments_digest,
        "labels": f"{classes.name(task.labels.rank)}, {'untrusted' if task.labels.untrusted else 'trusted'}",
        "ceiling": task.ceiling,
        "calls": f"{task.calls} before this one",
        "deadline": task.deadline.isoformat(timespec="seconds"),
    }
    if tool is not None:
        told["tool"] = f"{tool.effect}, holds {tool.data_class or classes.highest}, {tool.trust}, sends {tool.sends}"
    if facts.signals:
        told["signals"] = ", ".join(signal.value for signal in facts.signals)
    if task.drift:
        told["drift"] = ", ".join(sorted(task.drift))
    if body.outcome == "allow":
        told["line of the grant"] = f"{body.grant + 1}: {task.grants[body.grant].id}"
    if body.approval:
        told["approval"] = body.approval
    return told


def _changes(facts: Facts, policies: Policies, body: CallDecided) -> tuple[Change, ...]:
    """Single changes that alter the outcome; where none does, pairs."""
    now = outcome_of(authorize(facts, policies))
    steps = list(_steps(facts, body, loosen=body.outcome != "allow"))[:_CHANGES_MAX]
    found = [Change(what=what, would_be=after) for what, step in steps if (after := _outcome(step((facts, policies)))) != now]
    if found or body.outcome == "allow":
        return tuple(found)
    pairs = (
        Change(what=f"{first[0]}, and {second[0]}", would_be=after)
        for first, second in combinations(steps, 2)
        if _ORDER[after := _outcome(second[1](first[1]((facts, policies))))] > _ORDER[now]
    )
    return tuple(pairs)[:_CHANGES_MAX]


Step = tuple[str, "Callable[[World], World]"]


def _steps(facts: Facts, body: CallDecided, *, loosen: bool) -> Iterator[Step]:
    for policy in body.policies:
        yield f"without the policy {policy}", _dropping(policy)
    if loosen:
        yield from _looser(facts)
        return
    highest = len(facts.classes.names) - 1
    if not facts.task.labels.untrusted:
        yield "had the task read untrusted material", lambda world: (_labelled(world[0], untrusted=True), world[1])
    if facts.task.labels.rank < highest:
        text = f"had the task read {facts.classes.highest} data"
        yield text, lambda world: (_labelled(world[0], rank=highest), world[1])
    if body.approval:
        yield "without its approval", lambda world: (_unapproved(world[0]), world[1])


def _looser(facts: Facts) -> Iterator[Step]:
    task, call = facts.task, facts.call
    if facts.agent != task.agent:
        yield f"asked by {task.agent}", lambda world: (replace(world[0], agent=task.agent), world[1])
    if task.state is not TaskState.ACTIVE:
        yield "were the task active", lambda world: (_task(world[0], state=TaskState.ACTIVE), world[1])
    if facts.now >= task.deadline:
        yield "before its deadline", lambda world: (_task(world[0], deadline=world[0].now + timedelta(seconds=1)), world[1])
    yield "with calls and uses left", lambda world: (_unspent(world[0]), world[1])
    yield f"approved by a person ({call_key(facts)}, exactly this call)", lambda world: (_approved(world[0]), world[1])
    if task.labels.untrusted:
        yield "had the task read nothing untrusted", lambda world: (_labelled(world[0], untrusted=False), world[1])
    for rank in reversed(range(task.labels.rank)):
        name = facts.classes.name(rank)
        yield f"had the task read nothing above {name}", _reading_up_to(rank)
    if facts.signals:
        words = ", ".join(signal.value for signal in facts.signals)
        yield f"were it nothing new to its task type ({words})", lambda world: (replace(world[0], signals=()), world[1])
    if any(not leaf.trusted for leaf in facts.origins):
        yield "had all its arguments stood in the task's inputs", lambda world: (_from_inputs(world[0]), world[1])
    if facts.tool is not None and facts.classes.rank(facts.tool.data_class) > facts.classes.rank(task.ceiling):
        yield "under a higher ceiling", lambda world: (_task(world[0], ceiling=world[0].classes.highest), world[1])
    if facts.tool is not None and call.kind is Kind.TOOL:
        yield "were the tool the one that was pinned when the task was opened", lambda world: (_as_pinned(world[0]), world[1])
    if any(line.names(call.kind, call.server, call.name) and line.arguments for line in task.grants):
        yield "did the grant take these arguments", lambda world: (_widened(world[0]), world[1])
    if not any(line.names(call.kind, call.server, call.name) for line in task.grants):
        yield f"had the task been given {call.id}", lambda world: (_given(world[0]), world[1])


def _dropping(policy: str) -> Callable[[World], World]:
    return lambda world: (world[0], world[1].without(policy))


def _reading_up_to(rank: int) -> Callable[[World], World]:
    return lambda world: (_labelled(world[0], rank=rank), world[1])


def _outcome(world: World) -> str:
    decision: Decision = authorize(*world)
    return outcome_of(decision)


def _task(facts: Facts, **changes: object) -> Facts:
    return replace(facts, task=amended(facts.task, **changes))


def _labelled(facts: Facts, *, rank: int | None = None, untrusted: bool | None = None) -> Facts:
    labels = facts.task.labels
    return _task(facts, labels=Labels(labels.rank if rank is None else rank, labels.untrusted if untrusted is None else untrusted))


def _unspent(facts: Facts) -> Facts:
    nothing: frozenset[str] = frozenset()
    return _task(facts, calls=0, uses=(0,) * len(facts.task.grants), sums={}, recent=(), resources=nothing, bytes_read=0)


def _from_inputs(facts: Facts) -> Facts:
    source = Source(kind=SourceKind.INPUT, name="supposed", trust=Trust.TRUSTED)

    def supposed(leaves: tuple[Traced, ...]) -> tuple[Traced, ...]:
        return tuple(Traced(pointer=leaf.pointer, sources=(source,)) for leaf in leaves)

    return replace(facts, origins=supposed(facts.origins), references=supposed(facts.references))


def _approved(facts: Facts) -> Facts:
    key = call_key(facts)
    others = {
        name: approval for name, approval in facts.task.approvals.items() if (approval.call, approval.digest) != (key, facts.call.digest)
    }
    yes = Approval(
        id="supposed",
        call=key,
        digest=facts.call.digest,
        state=ApprovalState.GRANTED,
        expires_at=facts.now + timedelta(minutes=1),
        by="a person",
    )
    return _task(facts, approvals={**others, yes.id: yes})


def _unapproved(facts: Facts) -> Facts:
    return _task(facts, approvals={})


def _as_pinned(facts: Facts) -> Facts:
    tool = facts.tool
    assert tool is not None, "the step is made for known tools"
    return replace(_task(facts, tools={**facts.task.tools, tool.id: tool.digest}), seen_digest="")


def _widened(facts: Facts) -> Facts:
    call = facts.call
    lines = tuple(replace(line, arguments="") if line.names(call.kind, call.server, call.name) else line for line in facts.task.grants)
    return _task(facts, grants=lines)


def _given(facts: Facts) -> Facts:
    call = facts.call
    line = Grant(kind=call.kind, server=call.server, name=call.name)
    tools = {**facts.task.tools, call.id: facts.tool.digest} if facts.tool is not None else facts.task.tools
    return _task(facts, grants=(*facts.task.grants, line), uses=(*facts.task.uses, 0), tools=tools)
