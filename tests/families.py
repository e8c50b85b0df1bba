"""Tasks that delegate, for tests: a policy under which they may, and a root with its child and its grandchild."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from remit.model.catalog import Kind
from remit.model.delegation import Wanted, WantedLine
from remit.model.delegation_record import DelegableLine

if TYPE_CHECKING:
    from tests.support import World

POLICY = """
@id("reads") permit (principal, action in Action::"read", resource);
@id("hands on") permit (principal, action == Action::"task/delegate", resource);
"""
TERMS = DelegableLine(to=["reader", "payer"], depth=3, fan_out=50, lifetime_seconds=300)
_NUMBERS = itertools.count(1)


def wanted(agent: str = "reader", calls: int = 20, uses: int | None = None) -> Wanted:
    line = WantedLine(kind=Kind.TOOL, server="mail", name="read", uses=uses)
    return Wanted(request=f"r{next(_NUMBERS)}", agent=agent, objective="Read", lines=(line,), calls=calls)


async def chain(world: World) -> list[Any]:
    """A root, its child and its grandchild."""
    root = await world.open(budget_calls=120, delegable=TERMS)
    child = await world.delegations.delegate(world.bearer(root), wanted(calls=60), by=root.agent)
    return [root, child, await world.delegations.delegate(world.bearer(child), wanted("payer", calls=40), by=child.agent)]
