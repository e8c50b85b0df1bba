"""Drift of the manifest: which parts changed, what follows, and what a person accepts. Pure.

Rules
* A part that was ever reported otherwise than it was bound stays drifted, whatever is reported later, until a person accepts the
  manifest as it then is. Going back is a change like any other.
* The strictest part decides what follows. What nobody stated is ``suspend``.
* A person accepts one exact manifest, named by its digest; another one than stands now is refused.
"""

from __future__ import annotations

import difflib
import json
import re
from typing import TYPE_CHECKING, Any

from remit.errors import Broken, Conflict, Mistake, Refusal
from remit.logic.arguments import digest_json
from remit.model.manifest import SINGLE, Follows, PartChange, PartKind
from remit.model.task import TASK_MOVES, Task, TaskState, amended

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from remit.model.manifest import ManifestAccepted, ManifestChanged, Parts

PARTS_MAX = 100  # of one report and of one record, which must fit into one entry of the ledger
_NAME_CHARACTERS_MAX = 100
_DIGEST = re.compile(r"sha-256:[A-Za-z0-9_-]{43}\Z")
_DECLARED = ("name", "description", "inputSchema", "annotations")
_STRICTNESS = tuple(Follows)  # in the order of the table in model/manifest.py
_COMPARED_LINES_MAX = 2_000  # the comparison of hostile texts takes the square of it
_LINE_CHARACTERS_MAX = 1_000
_NAMED_MAX = 5  # parts named in one sentence


def check_parts(parts: Parts, *, gone: bool = False) -> dict[str, str]:
    """The parts an agent or its starter tells of, as they are. ``gone``: "" is allowed. Raises Mistake naming the part."""
    if len(parts) > PARTS_MAX:
        raise Mistake(f"a manifest has at most {PARTS_MAX} parts, this one {len(parts):,}", code="manifest")
    for part, digest in parts.items():
        kind, slash, name = part.partition("/")
        if kind not in _TOLD or bool(slash) is (kind in SINGLE):
            hint = f"{', '.join(sorted(SINGLE))}, or one of {', '.join(sorted(_TOLD - SINGLE))} with /NAME; servers are seen by the gateway"
            raise Mistake(f"{part[:80]!r} is no part of a manifest", code="manifest", hint=hint)
        if slash and not (0 < len(name) <= _NAME_CHARACTERS_MAX and name.isprintable()):
            raise Mistake(f"the name of part {part[:80]!r} is empty, too long or not printable", code="manifest")
        if not _DIGEST.match(digest) and not (gone and not digest):
            hint = "sha-256: and the digest as base64url without padding, 43 characters"
            raise Mistake(f"the digest of part {part[:80]!r} is none", code="manifest", hint=hint)
    return dict(parts)


def check_required(required: Iterable[str], parts: Parts) -> None:
    """Raise Refusal where a part is missing that the task type or the agent demands: by kind, or by its whole name."""
    missing = sorted({wanted for wanted in required if wanted not in parts and not any(kind_of(part) == wanted for part in parts)})
    if missing:
        raise Refusal(
            f"the manifest has no {', '.join(missing)}, and this task may not begin without",
            code="manifest_missing",
            hint="give it at start: `remit run --model … --system-prompt …`, [agents.NAME.manifest], or manifest in POST /v1/tasks",
        )


def kind_of(part: str) -> str:
    """The kind of a part: what stands before its name."""
    return part.partition("/")[0]


def accepted(task: Task) -> dict[str, str]:
    """The manifest as it was bound into the task, or accepted by a person since."""
    return {**task.manifest, **{f"{PartKind.SERVERS}/{tool}": digest for tool, digest in task.tools.items()}}


def current(task: Task) -> dict[str, str]:
    """The manifest as it was told of last."""
    return {part: digest for part, digest in {**accepted(task), **task.drift}.items() if digest}


def manifest_digest(task: Task) -> str:
    """What names the manifest as it is now: what a person accepts."""
    return digest_json(current(task))


def drifted(task: Task) -> tuple[PartChange, ...]:
    """Every part that is not settled: as it was accepted, and as it is now (the two may be the same again)."""
    before = accepted(task)
    return tuple(PartChange(part=part, before=before.get(part, ""), after=task.drift[part]) for part in sorted(task.drift))


def changes(task: Task, told: Parts) -> tuple[PartChange, ...]:
    """What of a report is news. Parts that a report does not name are as they were."""
    before = current(task)
    return tuple(
        PartChange(part=part, before=before.get(part, ""), after=told[part]) for part in sorted(told) if before.get(part, "") != told[part]
    )


def follows(task: Task, parts: Iterable[str]) -> Follows:
    """What the task type says of a change of these parts: the strictest of them speaks."""
    stated = [_rule(task, part) for part in parts]
    return max(stated, key=_STRICTNESS.index, default=Follows.RECORD)


def held(task: Task) -> tuple[str, ...]:
    """Drifted parts that keep the task from going on until a person has looked."""
    return tuple(part for part in sorted(task.drift) if _rule(task, part) is not Follows.RECORD)


def drift_words(task: Task) -> list[str]:
    """What policies see as ``context.drift``: every drifted part by its kind and by its whole name."""
    if not task.drift:
        return []
    return sorted({word for part in task.drift for word in (part, kind_of(part))})


def named(parts: Collection[str]) -> str:
    """Parts in a sentence, cut short."""
    shown = sorted(parts)[:_NAMED_MAX]
    return ", ".join(shown) + (f" and {len(parts) - len(shown)} more" if len(parts) > len(shown) else "")


def check_acceptance(task: Task, manifest: str, by: str) -> tuple[PartChange, ...]:
    """What a person accepts who names this manifest. Raises Conflict (not suspended, another manifest, its own agent, to be revoked)."""
    if by in {task.agent.text, task.id}:
        raise Conflict("an agent cannot accept its own drift", code="self_approval")
    if task.state is not TaskState.SUSPENDED:
        raise Conflict(f"task {task.id} is {task.state}; only a suspended task is resumed", code="task_state")
    if manifest != manifest_digest(task):
        hint = f"`remit task drift {task.id}` shows what it is now"
        raise Conflict(f"the manifest of task {task.id} is not the one that was shown", code="manifest_moved", hint=hint)
    lines = drifted(task)
    if follows(task, task.drift) is Follows.REVOKE:
        raise Conflict(f"the task type ends a task whose {named(task.drift)} changes", code="manifest_changed")
    return lines


def fold_changed(task: Task, body: ManifestChanged) -> tuple[Task, str]:
    """The task with its drift, and why it is suspended by it ("" : it is not, or is already). Raises Broken."""
    told = {line.part: line.after for line in body.parts}
    lines = tuple(body.parts)
    if TaskState.SUSPENDED not in TASK_MOVES[task.state] and task.state is not TaskState.SUSPENDED:
        raise Broken(f"the ledger changes the manifest of task {task.id}, which is {task.state}")
    if not lines or lines != changes(task, told) or body.follows != follows(task, told):
        raise Broken(f"the ledger changes the manifest of task {task.id} from what it was not, or with another end than its type states")
    changed = amended(task, drift={**task.drift, **told}, drifts=task.drifts + 1)
    suspends = task.state is TaskState.ACTIVE and body.follows != Follows.RECORD
    return changed, f"its manifest changed ({named(told)})" if suspends else ""


def fold_accepted(task: Task, body: ManifestAccepted) -> Task:
    """The task bound to what a person has accepted, not yet resumed. Raises Broken."""
    lines = tuple(body.parts)
    try:
        sound = bool(lines) and lines == check_acceptance(task, body.manifest, body.by)[:PARTS_MAX]
    except Conflict as conflict:
        raise Broken(f"the ledger resumes task {task.id} after a drift: {conflict.message}") from None
    if not sound:
        raise Broken(f"the ledger accepts a drift of task {task.id} that it does not have")
    now = current(task)
    seen = {part.partition("/")[2]: digest for part, digest in now.items() if kind_of(part) == PartKind.SERVERS}
    own = {part: digest for part, digest in now.items() if kind_of(part) != PartKind.SERVERS}
    return amended(task, manifest=own, tools=seen, drift={})


def server_parts(task: Task, server: str, digests: Mapping[str, str]) -> dict[str, str]:
    """What a server's whole list says of the tools of the grant: those it does not list are gone."""
    beginning = f"{server}/"
    tools = [tool for tool in task.tools if tool.startswith(beginning)]
    gone = [part for part in task.drift if part.startswith(f"{PartKind.SERVERS}/{beginning}")]  # accepted as gone, or come and gone
    names = {*tools, *(part.partition("/")[2] for part in gone)}
    return {f"{PartKind.SERVERS}/{tool}": digests.get(tool.removeprefix(beginning), "") for tool in names}


def declared_text(tool: Mapping[str, Any]) -> str:
    """What a server declares of a tool, as text a person can compare line by line."""
    declared = {key: tool[key] for key in _DECLARED if tool.get(key)}
    description = declared.pop("description", "")
    told = json.dumps(declared, indent=2, sort_keys=True, ensure_ascii=False)
    return f"{told}\ndescription:\n{description}\n" if description else f"{told}\n"


def text_difference(before: str, after: str, lines_max: int) -> tuple[str, ...]:
    """A unified difference of two texts, cut short. What it shows is a stranger's: a terminal gets it escaped."""
    one, other = before.splitlines(), after.splitlines()
    if max(len(one), len(other)) > _COMPARED_LINES_MAX:
        return (f"(more than {_COMPARED_LINES_MAX:,} lines: not compared line by line)",)
    found = [_short(line) for line in difflib.unified_diff(one, other, "as accepted", "as it is now", lineterm="")]
    return (*found[:lines_max], f"… and {len(found) - lines_max:,} lines more") if len(found) > lines_max else tuple(found)


def _short(line: str) -> str:
    more = len(line) - _LINE_CHARACTERS_MAX
    return line if more <= 0 else f"{line[:_LINE_CHARACTERS_MAX]}… ({more:,} characters more)"


def _rule(task: Task, part: str) -> Follows:
    return Follows(task.drift_rules.get(kind_of(part), Follows.SUSPEND))


_TOLD = frozenset(PartKind) - {PartKind.SERVERS}
