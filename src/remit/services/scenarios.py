"""Plays scenarios: given a task and its history, this call must be allowed, asked or denied, because of these policies.

Rules: a scenario takes the very road of a call (dispatcher, mediation, tasks) on a store that is thrown away, with a clock of its own;
no server is started and nothing real is touched. A step of the history that is not allowed fails the scenario, unless it says what
it expects.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from remit.errors import RemitError
from remit.logic.replay import outcome_of
from remit.model.identity import Bearer
from remit.model.task import TaskState
from remit.services.mediation import Refused, Ticket
from remit.services.scenario_files import BEGIN

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from remit.model.task import Task
    from remit.services.mediation import Mediation
    from remit.services.opening import Dispatcher
    from remit.services.scenario_files import Scenario, Step
    from remit.services.tasks import Tasks

_TESTER = "scenario"


@dataclass(slots=True)
class ScenarioClock:
    """The time of the scenarios: it moves when a step says so."""

    now: datetime = BEGIN

    def __call__(self) -> datetime:
        """The time now."""
        return self.now


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """A scenario that fell otherwise than it says."""

    scenario: str
    where: str
    expected: str
    got: str
    why: str


@dataclass(slots=True, kw_only=True)
class Tested:
    """What came of all scenarios. ``unexercised``: policies that determined no decision of any of them."""

    scenarios: int = 0
    failed: tuple[Failed, ...] = ()
    unexercised: tuple[str, ...] = ()


@dataclass(slots=True)
class Stage:
    """Where scenarios are played."""

    dispatcher: Dispatcher
    mediation: Mediation
    tasks: Tasks
    clock: ScenarioClock
    exercised: set[str] = field(default_factory=set)


async def play(stage: Stage, scenarios: tuple[Scenario, ...], policies: Collection[str]) -> Tested:
    """Play every scenario. Raises Outage."""
    failed = [found for scenario in scenarios if (found := await _play(stage, scenario)) is not None]
    unexercised = tuple(policy for policy in policies if policy not in stage.exercised)
    return Tested(scenarios=len(scenarios), failed=tuple(failed), unexercised=unexercised)


async def _play(stage: Stage, scenario: Scenario) -> Failed | None:
    stage.clock.now = scenario.at
    try:
        task = await stage.dispatcher.open(
            agent=scenario.agent,
            task_type=scenario.task,
            inputs=scenario.inputs,
            on_behalf_of=scenario.on_behalf_of,
            opened_by=_TESTER,
        )
    except RemitError as error:
        return Failed(scenario=scenario.name, where=str(scenario.place), expected="the task opens", got="it does not", why=str(error))
    for number, step in enumerate(scenario.steps, 1):
        stage.clock.now += step.after
        try:
            failed = await _step(stage, task, scenario, step)
        except RemitError as error:
            failed = _fails(scenario, step, step.expect, "an error", str(error))
        if failed is not None:
            last = number == len(scenario.steps)
            return (
                failed
                if last
                else Failed(
                    scenario=failed.scenario,
                    where=failed.where,
                    expected=failed.expected,
                    got=failed.got,
                    why=f"step {number} of its history: {failed.why}",
                )
            )
    return None


async def _step(stage: Stage, task: Task, scenario: Scenario, step: Step) -> Failed | None:
    if step.move is not None:
        ends = step.move in {TaskState.COMPLETED, TaskState.REVOKED}
        await (stage.tasks.end if ends else stage.tasks.move)(task.id, step.move, by=_TESTER)
    if step.call is None:
        return None
    answer = await _ask(stage, task, step)
    by = step.approved_by or step.refused_by
    if by:
        if not isinstance(answer, Refused) or answer.approval_id is None:
            return _fails(scenario, step, f"a question for {by}", outcome_of(answer.decision), _why(answer))
        await stage.tasks.answer(answer.approval_id, granted=bool(step.approved_by), by=by, shown=True)
        answer = await _ask(stage, task, step)
    if isinstance(answer, Ticket):
        await stage.mediation.observe(answer, step.ending, step.result)
        await stage.tasks.settle()
    return _compared(scenario, step, answer)


async def _ask(stage: Stage, task: Task, step: Step) -> Ticket | Refused:
    assert step.call is not None, "a move asks nothing"
    bearer = Bearer(agent=task.agent, task=task.id, proof="endpoint")
    seen = "sha-256:changed" if step.changed else ""
    answer = await stage.mediation.authorize(bearer, step.call, seen_digest=seen)
    stage.exercised.update(answer.decision.policies)
    return answer


def _compared(scenario: Scenario, step: Step, answer: Ticket | Refused) -> Failed | None:
    decision = answer.decision
    got = outcome_of(decision)
    codes = tuple(reason.code.value for reason in decision.reasons)
    if got != step.expect:
        return _fails(scenario, step, step.expect, got, _why(answer))
    missing = [code for code in step.reasons if code not in codes]
    if missing:
        return _fails(
            scenario, step, f"{step.expect} because of {', '.join(step.reasons)}", f"{got} because of {', '.join(codes)}", _why(answer)
        )
    if step.policies is not None and set(step.policies) != set(decision.policies):
        wanted, were = ", ".join(sorted(step.policies)) or "no policy", ", ".join(sorted(decision.policies)) or "no policy"
        return _fails(scenario, step, f"{step.expect} by {wanted}", f"{got} by {were}", _why(answer))
    return None


def _fails(scenario: Scenario, step: Step, expected: str, got: str, why: str) -> Failed:
    return Failed(scenario=scenario.name, where=str(step.place), expected=expected, got=got, why=why)


def _why(answer: Ticket | Refused) -> str:
    reasons = "; ".join(f"{reason.text} ({reason.code})" for reason in answer.decision.reasons)
    policies = ", ".join(answer.decision.policies)
    return f"{reasons}{f'; policies: {policies}' if policies else ''}"
