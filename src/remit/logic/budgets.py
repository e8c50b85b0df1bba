"""What a call would spend, and whether the task has it left. Pure.

Rules: what is lent to children counts as spent until it comes back. An amount that cannot be counted (no number, negative, hidden in
a text) is not counted as nothing: it is refused. A rate counts attempts and is not given back.
"""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

from remit.logic.arguments import digest_json
from remit.logic.values import parts, references
from remit.model.budget import Spent
from remit.model.catalog import Kind
from remit.model.decision import Code, Reason

if TYPE_CHECKING:
    from collections.abc import Iterator

    from remit.model.budget import SumBudget
    from remit.model.facts import Facts

_DIGITS_MAX = 30
_BETWEEN_ELEMENTS = re.compile(r"[,;|\n]")


def spent_by(facts: Facts, line: int) -> Spent | tuple[Reason, ...]:
    """What an allowed call takes of the task's budgets, or why it has not got it."""
    task, budget = facts.task, facts.task.budget
    reasons: list[Reason] = []
    sums: dict[str, Decimal] = {}
    for one in budget.sums:
        if facts.call.kind is not Kind.TOOL or not _is_of(one, facts.call.id):
            continue
        try:
            amount = amount_of(one, facts.call.arguments)
        except ValueError as error:
            reasons.append(
                Reason(Code.AMOUNT_UNCLEAR, f"{one.argument} cannot be counted for the budget {one.name}: {error}", one.argument)
            )
            continue
        before = task.sums.get(one.name, Decimal()) + task.lent.sums.get(one.name, Decimal()) + sums.get(one.name, Decimal())
        if before + amount > one.maximum:
            text = f"{before + amount:f} would be more than the {one.maximum:f} of {one.name} ({before:f} is spent)"
            reasons.append(Reason(Code.SUM_EXCEEDED, text, one.argument))
        sums[one.name] = sums.get(one.name, Decimal()) + amount
    resource = resource_of(facts) if budget.resources or task.watched else ""
    if budget.resources and resource not in task.resources and len(task.resources) + task.lent.resources >= budget.resources:
        reasons.append(Reason(Code.BUDGET_EXHAUSTED, f"this task has touched its {budget.resources} different resources"))
    return tuple(reasons) or Spent(grant=line, sums=sums, resource=resource)


def exhausted(facts: Facts) -> Iterator[Reason]:
    """Budgets of which nothing is left, whatever is called."""
    task, budget, lent = facts.task, facts.task.budget, facts.task.lent
    if task.calls + lent.calls >= budget.calls:
        what = f"used, or lent to its children ({lent.calls})" if lent.calls else "used"
        yield Reason(Code.BUDGET_EXHAUSTED, f"all {budget.calls} calls of this task are {what}")
    if budget.bytes_read and task.bytes_read + lent.bytes_read >= budget.bytes_read:
        yield Reason(Code.BUDGET_EXHAUSTED, f"this task has read its {budget.bytes_read:,} bytes")
    rate = budget.rate_calls - lent.rate_calls
    if budget.rate_calls and rate <= 0:
        yield Reason(Code.RATE_EXCEEDED, "all of this task's rate is lent to its children")
    elif budget.rate_calls and len(task.recent) >= rate:
        free = task.recent[-rate] + timedelta(seconds=budget.rate_seconds)
        if facts.now < free:
            seconds = (free - facts.now).total_seconds()
            text = f"{rate} calls in {budget.rate_seconds} s are the most; try again in {seconds:.0f} s"
            yield Reason(Code.RATE_EXCEEDED, text)


def amount_of(budget: SumBudget, arguments: dict[str, Any]) -> Decimal:
    """The amount that arguments name, 0 where they do not; of a list on the way, that of every element. Raises ValueError for what
    cannot be counted.
    """
    values: list[Any] = [arguments]
    for segment in budget.argument.split("/")[1:]:
        name = segment.replace("~1", "/").replace("~0", "~")
        values = [found for value in values for found in _inside(value, name)]
    if budget.counted:
        return Decimal(sum(map(_count, values)))
    amounts = [one for value in values for one in (value if isinstance(value, list) else [value])]
    return sum((_amount(one) for one in amounts), Decimal())


def resource_of(facts: Facts) -> str:
    """The digest of what a call names: its server, its tool's selectors and their values."""
    call, tool = facts.call, facts.tool
    named = call.arguments if tool is None or tool.selectors is None else {name: call.arguments.get(name) for name in tool.selectors}
    return digest_json({"server": call.server, "kind": call.kind.value, "named": named or call.name})


def _is_of(budget: SumBudget, call: str) -> bool:
    return call == budget.tool or (budget.tool.endswith("*") and call.startswith(budget.tool[:-1]))


def _inside(value: Any, name: str) -> Iterator[Any]:
    """What stands under a name; a list holds whatever its elements hold. Raises ValueError where nothing can stand under a name."""
    if isinstance(value, dict):
        if name in value:
            yield value[name]
    elif isinstance(value, list):
        if name.isascii() and name.isdigit():
            yield from value[int(name) : int(name) + 1]
        else:
            for element in value:
                yield from (element,) if name == "*" else _inside(element, name)
    elif value is not None:
        raise ValueError("it does not stand where the budget looks for it")


def _count(value: Any) -> int:
    if value is None:
        return 0
    if isinstance(value, str):
        return _count_in_text(value)
    return len(value) if isinstance(value, list | dict) else 1


def _count_in_text(text: str) -> int:
    """How many a text names, rather too many: by what leads somewhere in it, and by what separates ("Ann <ann@a.org>, Bob <bob@b.org>")."""
    alone = len(parts(text))
    if alone:
        return alone
    separated = sum(bool(piece.strip()) for piece in _BETWEEN_ELEMENTS.split(text))
    return max(separated, sum(1 for _ in references(text)), 1)


def _amount(value: Any) -> Decimal:
    try:
        amount = Decimal("NaN" if isinstance(value, bool) else str(value))
    except InvalidOperation:
        raise ValueError("not a number") from None
    if not amount.is_finite() or abs(amount.adjusted()) > _DIGITS_MAX or len(amount.as_tuple().digits) > _DIGITS_MAX:
        raise ValueError("not a number that can be added up")
    if amount < 0:
        raise ValueError("negative")
    return amount
