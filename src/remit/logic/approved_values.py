"""Which values of an approved call a person has vouched for: where the task type says so, they are an origin of later calls. Pure.

Rules: only a value that stood before everybody who answered, whole and character for character; only in a call that is exactly the
one that was asked about, never of a class of calls; only where nobody else vouches for it already; and only a value that says enough
to be recognised by. What the task has seen otherwise of such a value counts no longer: a person has looked at it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from remit.logic.approvals import argument_of
from remit.logic.evidence import shown_whole
from remit.logic.laundering import is_marked
from remit.logic.values import leaves, normal
from remit.model.decision import Allow

if TYPE_CHECKING:
    from remit.model.decision import Decision
    from remit.model.facts import Facts

_LEAVES_MAX = 500


def approved_values(facts: Facts, decision: Decision) -> tuple[tuple[str, str], ...]:
    """JSON pointers into the arguments, each with the normal form of the value that stands there."""
    if not isinstance(decision, Allow) or decision.approval is None or not facts.task.grants[decision.spent.grant].approved_values:
        return ()
    approval, arguments = facts.task.approvals[decision.approval], facts.call.arguments
    if not approval.shown or approval.widened is not None or approval.digest != facts.call.digest:
        return ()
    whole, vouched = shown_whole(arguments), {leaf.pointer for leaf in facts.origins if leaf.trusted}
    try:
        found = [(pointer, normal(value)) for pointer, value in leaves(arguments, _LEAVES_MAX) if argument_of(pointer) in whole]
    except ValueError:
        return ()
    return tuple((pointer, form) for pointer, form in found if form and is_marked(form) and pointer not in vouched)
