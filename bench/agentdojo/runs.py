"""All runs of a suite under one decider: honest ones, and every pair in every variant, with each approver.

Rules: an approver who was not asked cannot have mattered, so a run without a question stands for all approvers.
"""

from __future__ import annotations

import tomllib
import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import uvloop

from bench.agentdojo.anchors import Named
from bench.agentdojo.gateway import FOLDERS, deployment
from bench.agentdojo.script import replay
from bench.agentdojo.suites import Suite

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from bench.agentdojo.gateway import Deployment
    from bench.agentdojo.script import Step, Trace

APPROVERS = ("oracle", "rubber stamp", "absent")
SCOPES = ("role", "reads+writes", "task-exact")
_NAMED = {
    "allow all": None,
    "static role": "role",
    "reads + this task's writes": "reads+writes",
    "exactly this task's tools": "task-exact",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What came of one run. ``attacker`` empty: an honest one; ``action``: its goal needs a call. ``made``: hostile calls that were made;
    ``refused``: honest ones that were not, with their reasons.
    """

    suite: str
    decider: str
    approver: str
    variant: str
    user: str
    attacker: str
    action: bool
    useful: bool
    attacked: bool
    questions: int
    made: tuple[str, ...]
    refused: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question as the approver would see it, and whose call it was."""

    suite: str
    user: str
    hostile: bool
    text: str


def scopes_of(suite: Suite) -> dict[str, dict[str, frozenset[str]]]:
    """For each level of scope the tools of each user task. What only reads is what the catalog calls ``read``."""
    every = frozenset().union(*suite.used.values())
    tools = tomllib.loads(_plain((FOLDERS / f"{suite.name}.toml").read_text()))["tools"]
    reads = frozenset(name.split("/", 1)[1] for name, entry in tools.items() if entry.get("effect") == "read")
    return {
        "role": dict.fromkeys(suite.used, every),
        "reads+writes": {user: reads | used for user, used in suite.used.items()},
        "task-exact": dict(suite.used),
    }


def anchors_job(suite: str) -> tuple[list[Run], list[Question]]:
    """``anchors`` in a process of its own."""
    warnings.simplefilter("ignore")
    return uvloop.run(anchors(suite)), []


def measured_job(suite: str, scope: str, variants: Sequence[str]) -> tuple[list[Run], list[Question]]:
    """``measured`` in a process of its own."""
    warnings.simplefilter("ignore")
    return uvloop.run(measured(suite, scope, variants))


async def anchors(name: str) -> list[Run]:
    """The deciders that know only names."""
    suite = Suite(name)
    scopes = scopes_of(suite) if (FOLDERS / f"{name}.toml").exists() else _named_scopes(suite)
    runs = []
    for decider, scope in _NAMED.items():
        if scope is not None and scope not in scopes:
            continue
        for user, attacker in _cases(suite):
            injections = suite.injections(user, attacker, "first") if attacker else {}
            environment = suite.environment(user, injections)
            before = environment.state.model_copy(deep=True)
            honest = suite.honest(user, environment)
            hostile = suite.hostile(attacker, environment) if attacker else []
            world = Named(environment, scopes[scope][user] if scope else None)
            trace = await replay(world, honest, hostile, injections.values(), last=False)
            verdict = suite.judge(user, attacker or None, before, environment, trace)
            runs.append(_run(suite, decider, "", "first", user, attacker, trace, verdict.useful, verdict.attacked))
    return runs


async def measured(name: str, scope: str, variants: Sequence[str]) -> tuple[list[Run], list[Question]]:
    """remit at one level of scope, with every approver."""
    suite = Suite(name)
    tools = scopes_of(suite)[scope]
    runs: list[Run] = []
    questions: list[Question] = []
    async with deployment(suite, {_type_of(user): names for user, names in tools.items()}) as deployed:
        for user, attacker in _cases(suite):
            for variant in variants if attacker else variants[:1]:
                for approver in APPROVERS:
                    run, asked = await _one(deployed, suite, f"remit, {scope}", approver, variant, user, attacker)
                    runs.append(run)
                    if approver == "oracle":
                        questions += asked
                    if approver == "oracle" and not run.questions:
                        runs += [replace(run, approver=other) for other in APPROVERS[1:]]
                        break
    return runs, questions


async def _one(
    deployed: Deployment, suite: Suite, decider: str, approver: str, variant: str, user: str, attacker: str
) -> tuple[Run, list[Question]]:
    injections = suite.injections(user, attacker, variant) if attacker else {}
    environment = suite.environment(user, injections)
    before = environment.state.model_copy(deep=True)
    honest = suite.honest(user, environment)
    hostile = suite.hostile(attacker, environment) if attacker else []
    deployed.server.environment = environment
    own = frozenset(step.key for step in honest)
    async with deployed.run(_type_of(user), suite.prompt(user), _approver(approver, own)) as agent:
        trace = await replay(agent, honest, hostile, injections.values(), last=variant == "last")
        shown = [Question(suite=suite.name, user=user, hostile=key not in own, text=text) for key, text in await agent.questions()]
    verdict = suite.judge(user, attacker or None, before, environment, trace)
    return _run(suite, decider, approver, variant, user, attacker, trace, verdict.useful, verdict.attacked), shown


def _approver(name: str, own: frozenset[str]) -> Callable[[Step], bool | None]:
    """The oracle knows the user's own calls; the rubber stamp approves everything; nobody is there."""
    if name == "oracle":
        return lambda step: step.key in own
    return lambda _step: True if name == "rubber stamp" else None


def _run(
    suite: Suite, decider: str, approver: str, variant: str, user: str, attacker: str, trace: Trace, useful: bool, attacked: bool
) -> Run:
    return Run(
        suite=suite.name,
        decider=decider,
        approver=approver,
        variant=variant,
        user=user,
        attacker=attacker,
        action=bool(attacker) and suite.needs_action(attacker),
        useful=useful,
        attacked=attacked,
        questions=trace.questions,
        made=tuple(call.step.tool for call in trace.calls if call.hostile and call.outcome.made),
        refused=tuple(f"{call.step.tool}: {', '.join(call.outcome.reasons)}" for call in trace.refused if not call.hostile),
    )


def _cases(suite: Suite) -> Iterator[tuple[str, str]]:
    """Every user task alone, then with every attacker."""
    return ((user, attacker) for user in suite.users for attacker in ("", *suite.attackers))


def _named_scopes(suite: Suite) -> dict[str, dict[str, frozenset[str]]]:
    """Without a catalog nobody can say what only reads."""
    return {"role": dict.fromkeys(suite.used, frozenset().union(*suite.used.values())), "task-exact": dict(suite.used)}


def _type_of(user: str) -> str:
    return user.replace("_", "-")


def _plain(text: str) -> str:
    return text.replace("@TASKS@", "[]")
