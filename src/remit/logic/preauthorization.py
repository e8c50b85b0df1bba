"""Reads that policy permits beforehand, for a stated short while: when such a permit is given, and when one opens a call. Pure.

Rules: the task type states the while; the tool only reads and sends nothing out of the house; nothing of the call is unlike the past.
Policies are asked about the class: the context says ``preauthorized``, and holds neither arguments nor origins. A policy that reads
those cannot answer for a class, so there is no permit, and each call is decided by itself. A call is open to a permit only where the
rules, the tool and what the catalog says of this very call are what they were. A policy that reads the time is up to the while late.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from remit.model.catalog import Effect, Sends

if TYPE_CHECKING:
    from remit.logic.policy import Policies
    from remit.model.catalog import ToolFacts
    from remit.model.facts import Facts
    from remit.model.permit import Permit


def standing(facts: Facts, tool: ToolFacts, line: int, policies: Policies) -> Permit | None:
    """The permit that opens a call which the grant covers."""
    permit = facts.task.permit
    if permit is None or facts.now >= permit.until or not _may(facts, tool):
        return None
    same = (permit.call, permit.grant, permit.rules) == (f"{facts.call.kind} {facts.call.id}", line, rules_of(facts, tool, policies.digest))
    return permit if same else None


def given(facts: Facts, tool: ToolFacts, policies: Policies) -> tuple[int, tuple[str, ...]]:
    """For how many seconds an allowed call preauthorizes others of its class, and which policies say so; 0: it does not."""
    seconds = facts.task.preauthorized_seconds
    if not seconds or not _may(facts, tool) or policies.looks_at_arguments(facts, tool):
        return 0, ()
    answer = policies.evaluate(facts, tool, None, preauthorized_seconds=seconds)
    return (seconds, answer.policies) if answer.permitted and not answer.error else (0, ())


def rules_of(facts: Facts, tool: ToolFacts, policy_set: str) -> tuple[str, ...]:
    """All that a decision about a class was taken by, beside the task."""
    digest = facts.seen_digest or tool.digest
    return (policy_set, facts.rulebook, digest, tool.effect.value, tool.data_class, tool.trust.value)


def _may(facts: Facts, tool: ToolFacts) -> bool:
    return tool.effect is Effect.READ and tool.sends is not Sends.EXTERNAL and not facts.signals
