"""Goes through recorded work of one task type and proposes the narrowest grant and policies that still cover it.

Rules: honest work is what completed tasks were allowed; a task that is not to count is named. What is proposed is decided again over
all of it before it is shown, and what it would not cover is named. Where arguments were not kept, the lines of their tool stay as they
are. A forbid is never proposed to go, however little it did.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from remit.errors import NotFound
from remit.logic.authorize import authorize
from remit.logic.grants import demands
from remit.logic.mining import Used, mined_grant
from remit.logic.mining_text import patch, proposed_policies, proposed_type
from remit.logic.task_types import open_grant
from remit.model.catalog import Kind
from remit.model.decision import Allow
from remit.model.task import TaskState, amended

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

    from remit.logic.policy import Policies
    from remit.model.task import Task
    from remit.model.task_type import GrantTemplate, TaskType
    from remit.services.history import History, Moment

_CALLS_MAX = 100_000
_ARGUMENT = 2  # segments of a pointer to a whole argument: "", its name


@dataclass(slots=True, kw_only=True)
class Mined:
    """What is proposed. ``covered`` of ``calls`` would still be allowed; ``unused`` lines and policies; ``notes`` for people."""

    task_type: str
    tasks: int
    calls: int
    covered: int
    not_covered: tuple[str, ...]
    unused_grants: tuple[str, ...]
    unused_permits: tuple[str, ...]
    unused_forbids: tuple[str, ...]
    notes: tuple[str, ...]
    patch: str


@dataclass(slots=True)
class _Work:
    """What was recorded: allowed calls of the type, and which policies ever determined anything."""

    moments: list[Moment]
    policies: set[str]


async def mine(
    history: History,
    view: Callable[[str], Awaitable[Task]],
    task_type: TaskType,
    policies: Policies,
    *,
    texts: Mapping[str, str],
    policy_files: Collection[str],
    without: Collection[str] = (),
) -> Mined:
    """Propose for one task type. ``texts``: its file and the policy files, by name; ``policy_files``: which of them may change.

    ``without``: tasks that do not count. Raises NotFound where nothing was recorded, Refusal, Broken, Outage.
    """
    work = await _work(history, task_type.name)
    ended = {task: await view(task) for task in dict.fromkeys(moment.task.id for moment in work.moments)}
    honest = {id: task for id, task in ended.items() if task.state is TaskState.COMPLETED and id not in without}
    moments = [moment for moment in work.moments if moment.task.id in honest]
    if not moments:
        raise NotFound(f"no completed task of the type {task_type.name} was allowed any call", hint="`remit task list` shows tasks")
    lines = _lines(moments, task_type)
    unused = [part for part in policies.parts if part.id not in work.policies]
    permits = tuple(part.id for part in unused if part.body["effect"] == "permit")
    file = f"tasks/{task_type.name}.toml"
    ceiling = max(task.labels.rank for task in honest.values())
    classes = (await history.facts(moments[-1])).classes
    most = max(task.calls for task in honest.values())
    after = {
        file: proposed_type(texts[file], lines, classes.name(ceiling), most),
        **proposed_policies({name: texts[name] for name in policy_files}, policies, permits if policy_files else ()),
    }
    gone = [] if not policy_files else permits
    failed = await _not_covered(history, moments, replace(task_type, grants=lines), _fewer(policies, gone), classes.name(ceiling))
    names = {f"{moment.body.server}/{moment.body.name}" for moment in moments}
    return Mined(
        task_type=task_type.name,
        tasks=len(honest),
        calls=len(moments),
        covered=len(moments) - len(failed),
        not_covered=tuple(failed[:20]),
        unused_grants=tuple(f"{line.kind} {line.server}/{line.name}" for line in task_type.grants if not _was_used(line, names)),
        unused_permits=permits,
        unused_forbids=tuple(part.id for part in unused if part.body["effect"] == "forbid"),
        notes=_notes(moments, honest.values(), task_type),
        patch=patch({name: texts[name] for name in after}, after),
    )


async def _work(history: History, task_type: str) -> _Work:
    work = _Work([], set())
    async for moment in history.moments():
        work.policies.update(moment.body.policies)
        if moment.task.type == task_type and moment.body.outcome == "allow" and len(work.moments) < _CALLS_MAX:
            work.moments.append(moment)
    return work


def _lines(moments: Sequence[Moment], task_type: TaskType) -> tuple[GrantTemplate, ...]:
    """Mined lines; of tools whose arguments are not known, the lines that there are."""
    used = [_used(moment) for moment in moments]
    dark = {(call.kind, call.server, call.name) for call in used if call.arguments is None}
    kept = [line for line in task_type.grants if _demands_inside(line) or any(_names(line, *call) for call in dark)]
    mined = mined_grant([call for call in used if not any(_names(line, call.kind, call.server, call.name) for line in kept)])
    return (*(_as_strict(line, task_type) for line in mined), *kept)


def _as_strict(line: GrantTemplate, task_type: TaskType) -> GrantTemplate:
    """A mined line with what all present lines of its tool demand: origins of an argument, autonomy."""
    present = [one for one in task_type.grants if _names(one, line.kind, line.server, line.name)]
    autonomy = {one.autonomy for one in present}
    told = bool(present) and all(one.approved_values for one in present)
    line = replace(line, autonomy=autonomy.pop() if len(autonomy) == 1 else "", approved_values=told)
    properties = dict(line.arguments.get("properties", {}))
    for name, rule in properties.items():
        origins = [one.arguments.get("properties", {}).get(name, {}).get("origin") for one in present]
        if origins and all(origins):
            admitted = [word for origin in origins for word in ([origin] if isinstance(origin, str) else origin)]
            properties[name] = {**rule, "origin": list(dict.fromkeys(admitted))}
    return replace(line, arguments={**line.arguments, "properties": properties}) if properties else line


def _demands_inside(line: GrantTemplate) -> bool:
    """Whether a line demands origins of more than whole arguments: then it stays as it is."""
    return any(len(pointer) > _ARGUMENT for pointer, _ in demands(line.arguments))


def _used(moment: Moment) -> Used:
    body, task = moment.body, moment.task
    arguments = {"uri": body.name} if body.tool_kind == Kind.RESOURCE.value else moment.arguments
    return Used(task=task.id, inputs=task.inputs, kind=Kind(body.tool_kind), server=body.server, name=body.name, arguments=arguments)


async def _not_covered(history: History, moments: Sequence[Moment], mined: TaskType, policies: Policies, ceiling: str) -> list[str]:
    """Calls that would no longer be allowed."""
    uses: dict[str, tuple[int, ...]] = {}
    failed = []
    for moment in moments:
        facts = await history.facts(moment)
        inputs: Mapping[str, Any] = moment.task.inputs
        grants = open_grant(mined, inputs)
        spent = uses.get(moment.task.id, (0,) * len(grants))
        whole = moment.arguments is not None
        if not whole:  # its lines stay as they are, so it is covered as it was
            continue
        facts = replace(facts, task=amended(facts.task, grants=grants, uses=spent, ceiling=ceiling))
        decision = authorize(facts, policies)
        if not isinstance(decision, Allow):
            failed.append(f"{moment.body.decision}: {'; '.join(reason.text for reason in decision.reasons)}")
            continue
        uses[moment.task.id] = tuple(count + (index == decision.spent.grant) for index, count in enumerate(spent))
    return failed


def _fewer(policies: Policies, gone: Collection[str]) -> Policies:
    for policy in gone:
        policies = policies.without(policy)
    return policies


def _notes(moments: Sequence[Moment], tasks: Collection[Task], task_type: TaskType) -> tuple[str, ...]:
    notes = []
    dark = sorted({f"{moment.body.server}/{moment.body.name}" for moment in moments if moment.arguments is None})
    if dark:
        notes.append(f"values were not kept of {', '.join(dark)}: their lines stay as they are ([ledger] keep_values)")
    longest = max(((task.ended_at or task.opened_at) - task.opened_at for task in tasks), default=timedelta(0))
    seconds = round(longest.total_seconds())
    notes.append(f"the longest task took {seconds}s; its deadline is {round(task_type.deadline.total_seconds())}s")
    return tuple(notes)


def _was_used(line: GrantTemplate, names: Collection[str]) -> bool:
    return any(_names(line, line.kind, *name.split("/", 1)) for name in names) or "{" in line.name


def _names(line: GrantTemplate, kind: Kind, server: str, name: str) -> bool:
    if (line.kind, line.server) != (kind, server):
        return False
    return name.startswith(line.name[:-1]) if line.name.endswith("*") else name == line.name or "{" in line.name
