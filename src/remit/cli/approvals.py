"""Commands of those who answer questions: ``approvals``, ``approve``, ``deny``.

Whoever answers is an account of this machine (where nobody is configured, or an approver lists it), or proves with ``--as`` and a
secret to be an approver. A process of a task answers nothing.
"""

from __future__ import annotations

import os
import re
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from remit.cli.common import emit, folder_option, json_option, operator, reports_errors, safe
from remit.errors import Mistake, Refusal
from remit.logic.approvals import Wish
from remit.logic.evidence import evidence_lines
from remit.model.approval import ApprovalState
from remit.node import open_node

if TYPE_CHECKING:
    from collections.abc import Callable

    from remit.model.approval import Approval
    from remit.node import Node
    from remit.services.approvals import Person, Question

_SECRET = "REMIT_APPROVER_SECRET"  # noqa: S105 - the name of a variable
_SPAN = re.compile(r"(?:(\d{1,4})h)?(?:(\d{1,4})m)?(?:(\d{1,6})s)?\Z", re.ASCII)


def as_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--as``: which approver answers."""
    text = f"The approver you are; your secret is asked for, or taken from {_SECRET}."
    return click.option("--as", "approver", metavar="NAME", default="", help=text)(command)


@click.command()
@click.argument("approval", required=False)
@as_option
@folder_option
@json_option
@reports_errors
async def approvals(approval: str | None, approver: str, folder: Path, as_json: bool) -> None:
    """What waits for you, with all that tells friend from foe; or one question, APPROVAL, open or not."""
    async with open_node(folder.resolve()) as node:
        person = _person(node, approver)
        if approval:
            found = [await node.approvals.shown(approval, person)]
        else:
            found = await node.approvals.waiting(person)
    human = "\n\n".join("\n".join(_lines(question)) for question in found)
    data = [_data(question) for question in found]
    emit(data[0] if approval else data, human or "nothing waits", as_json=as_json)


def _answerer(name: str, words: str, *, granted: bool) -> click.Command:
    @click.command(name, help=words)
    @click.argument("approval")
    @click.option("--reason", default="", help="Why; it is recorded, and the agent reads it when denied.")
    @as_option
    @folder_option
    @json_option
    @reports_errors
    async def answer(approval: str, reason: str, approver: str, folder: Path, as_json: bool, **wider: Any) -> None:
        not_from_a_task()
        wish = _wish(**wider) if granted else None
        async with open_node(folder.resolve()) as node:
            person = _person(node, approver)
            answered = await node.approvals.answer(person, approval, granted=granted, reason=reason, wish=wish)
        data = {"approval": approval, "state": answered.state, "needed": answered.needed, "answers": len(answered.answers)}
        emit(data, _told(answered), as_json=as_json)

    return answer


def _person(node: Node, name: str) -> Person:
    if not name:
        return node.approvals.at_terminal(operator())
    secret = os.environ.get(_SECRET) or click.prompt(f"secret of {name}", hide_input=True, err=True)
    return node.approvals.by_secret(str(secret), "cli", name=name)


def _wish(calls: int, lasts: str, free: str) -> Wish:
    """How far to widen. Raises Mistake."""
    span = None
    if lasts:
        match = _SPAN.match(lasts)
        hours, minutes, seconds = (int(part or 0) for part in match.groups()) if match else (0, 0, 0)
        span = timedelta(hours=hours, minutes=minutes, seconds=seconds)
        if not span:
            raise Mistake(f"--for {lasts[:40]!r} is no time", code="class", hint="10m, 1h, 1h30m or 45s")
    return Wish(calls=calls, lasts=span, free=tuple(name for name in (part.strip() for part in free.split(",")) if name))


def _data(question: Question) -> dict[str, Any]:
    approval, task, details = question.approval, question.task, question.details
    return {
        "approval": approval.id,
        "state": approval.state,
        "call": approval.call,
        "arguments_digest": approval.digest,
        "needed": approval.needed,
        "answers": approval.answers,
        "task": task.id,
        "type": task.type,
        "objective": task.objective,
        "agent": task.agent.text,
        "on_behalf_of": task.on_behalf_of,
        "untrusted": task.labels.untrusted,
        "expires_at": approval.expires_at,
        "evidence": msgspec.to_builtins(details.evidence) if details else None,
    }


def _lines(question: Question) -> list[str]:
    approval, task = question.approval, question.task
    lines = [f"{approval.id}  {approval.state}, {len(approval.answers)} of {approval.needed} have answered"]
    lines += [
        f"  {'yes' if one.granted else 'no'} from {safe(one.by)}: {safe(one.reason) or '(no reason given)'}" for one in approval.answers
    ]
    if question.details is not None:
        return [*lines, *(f"  {line}" for line in evidence_lines(question.details.evidence))]
    lines.append(f"  {safe(approval.call)}, arguments {approval.digest} (their values are no longer kept)")
    lines.append(f"  for {safe(task.on_behalf_of)}: {safe(task.objective)}; task {task.id} ({safe(task.type)}), agent {task.agent}")
    return lines


def _told(approval: Approval) -> str:
    if approval.state is ApprovalState.PENDING:
        return f"{approval.id} has your yes; {approval.needed - len(approval.answers)} more must agree"
    if approval.state is ApprovalState.GRANTED and approval.widened is not None:
        wide = approval.widened
        free = f", {', '.join(map(safe, wide.free))} free" if wide.free else ""
        return f"{approval.id} is granted: {wide.calls} calls until {wide.until:%Y-%m-%d %H:%M:%S} UTC{free}"
    return f"{approval.id} is {approval.state}; it holds for one call, once"


def not_from_a_task() -> None:
    """An agent's process, and what it starts, may not answer. A first fence only: run agents under an account of their own."""
    if "REMIT_TASK" in os.environ or any(b"REMIT_TASK=" in environment for environment in _ancestors()):
        raise Refusal(
            "a process of a task cannot answer questions",
            code="self_approval",
            hint="answer from a terminal of your own",
        )


def _ancestors() -> list[bytes]:
    """Environments of the processes that led to this one, as far as this account may read them."""
    found: list[bytes] = []
    process = os.getppid()
    while process > 1 and len(found) < 64:
        try:
            found.append(Path(f"/proc/{process}/environ").read_bytes())
            process = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            break
    return found


approve = _answerer("approve", "Approve one question: exactly that call, once, or the class of calls that you describe.", granted=True)
approve.params[1:1] = [
    click.Option(["--calls"], type=click.IntRange(min=1), default=1, help="So many calls of this class (default: 1)."),
    click.Option(["--for", "lasts"], default="", metavar="10m", help="For so long (default: as long as the question holds)."),
    click.Option(
        ["--any", "free"], default="", metavar="NAMES", help="These arguments may differ, with commas; * : all, within the grant."
    ),
]
deny = _answerer("deny", "Deny one question.", granted=False)
