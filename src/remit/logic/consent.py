"""Who may answer the questions about one call, and how many must: the configured approvers and rules, applied. Pure.

Rules: an approver may answer what the scope covers and nothing else. Of several rules that cover a call the strictest word
counts. Four eyes are the default as soon as anybody is configured; then the person for whom a task runs, and whoever opened it,
do not count as approvers of it. Nobody configured: whoever works at a terminal of remit's own machine may answer.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from remit.logic.approvals import Bounds, excluded, same_name
from remit.model.approver import ApprovalRule, Approver, Elicitation, Terms
from remit.model.catalog import Effect

if TYPE_CHECKING:
    from collections.abc import Callable

    from remit.model.catalog import ToolFacts
    from remit.model.labels import DataClasses
    from remit.model.task import Task

_REMEMBERED_MAX = 65_536  # more than 10,000 task types make in their usual calls
_LOOSENESS = (Elicitation.OFF, Elicitation.URL, Elicitation.FORM)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Standing:
    """What holds for a call, whoever the task is for."""

    approvers: tuple[Approver, ...]
    terms: Terms  # as if nobody were configured


@dataclass(frozen=True, slots=True, kw_only=True)
class Consent:
    """``[approvals]`` and ``[approvers]``. ``wait``: how long the gateway may hold a call open for an answer. It remembers."""

    approvers: tuple[Approver, ...] = ()
    rules: tuple[ApprovalRule, ...] = ()
    needed: int = 1
    four_eyes: bool | None = None
    elicitation: Elicitation = Elicitation.OFF
    passkey: bool = False
    wait: timedelta = timedelta(0)
    link_ttl: timedelta = timedelta(minutes=15)
    bounds: Bounds = field(default_factory=lambda: Bounds(calls_max=20, lasts_max=timedelta(hours=1)))
    _known: dict[tuple[str, ...], _Standing] = field(default_factory=dict, init=False, compare=False, repr=False)

    def terms(self, tool: ToolFacts, task: Task, classes: DataClasses) -> Terms:
        """What holds for a question about a call of this tool in this task, now."""
        standing = self._standing(tool, task, classes)
        return replace(standing.terms, approvers=len(self._present(standing, task))) if self.approvers else standing.terms

    def who(self, tool: ToolFacts, task: Task, classes: DataClasses) -> tuple[Approver, ...]:
        """The approvers who may answer."""
        return self._present(self._standing(tool, task, classes), task)

    def named(self, name: str) -> Approver | None:
        """The approver of that name or alias; ``None`` where there is none, or more than one."""
        wanted = same_name(name)
        found = [approver for approver in self.approvers if wanted in {same_name(known) for known in approver.names}]
        return found[0] if len(found) == 1 else None

    def uncovered(self, tool: ToolFacts, task_type: str, data_class: str) -> str:
        """Why nobody could answer about a call, a few words; "" where enough may (as far as four eyes can be told in advance)."""
        if not self.approvers:
            return ""
        standing = self._of(tool.id, tool.effect, data_class, task_type)
        if len(standing.approvers) >= standing.terms.needed:
            return ""
        have, what = len(standing.approvers), f"{tool.id} ({tool.effect}, {data_class}) in {task_type}"
        return f"{have} of {standing.terms.needed} needed approvers cover {what}"

    def _present(self, standing: _Standing, task: Task) -> tuple[Approver, ...]:
        out = excluded(task, four_eyes=standing.terms.four_eyes)
        return tuple(one for one in standing.approvers if not out & {same_name(name) for name in one.names})

    def _standing(self, tool: ToolFacts, task: Task, classes: DataClasses) -> _Standing:
        highest = classes.name(max(classes.rank(tool.data_class), task.labels.rank))
        return self._of(tool.id, tool.effect, highest, task.type)

    def _of(self, tool: str, effect: Effect, data_class: str, task_type: str) -> _Standing:
        key = (tool, effect, data_class, task_type)
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= _REMEMBERED_MAX:
                self._known.clear()
            found = self._known[key] = self._made(*key)
        return found

    def _made(self, tool: str, effect: str, data_class: str, task_type: str) -> _Standing:
        call = (tool, effect, data_class, task_type)
        rules = [rule for rule in self.rules if rule.scope.covers(*call)]
        default = bool(self.approvers) if self.four_eyes is None else self.four_eyes
        elicitation = _strictest(rules, lambda rule: rule.elicitation, self.elicitation)
        if elicitation is Elicitation.FORM and effect == Effect.IRREVERSIBLE:
            elicitation = Elicitation.URL  # a client that was taken over could answer for its user
        passkey = self.passkey or any(rule.passkey for rule in rules)
        terms = Terms(
            needed=max((rule.needed for rule in rules if rule.needed is not None), default=self.needed),
            four_eyes=any(stated) if (stated := [rule.four_eyes for rule in rules if rule.four_eyes is not None]) else default,
            elicitation=Elicitation.OFF if passkey else elicitation,  # a client has no passkey to ask for
            passkey=passkey,
        )
        return _Standing(approvers=tuple(approver for approver in self.approvers if approver.scope.covers(*call)), terms=terms)


def _strictest(rules: list[ApprovalRule], of: Callable[[ApprovalRule], Elicitation | None], default: Elicitation) -> Elicitation:
    stated = [word for rule in rules if (word := of(rule)) is not None]
    return min(stated, key=_LOOSENESS.index, default=default)
