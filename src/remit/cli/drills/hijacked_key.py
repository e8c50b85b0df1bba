"""An LLM key, hijacked within minutes of being exposed: keys that were published by mistake were in strangers' use within minutes.

What an agent of remit can expose is its task's token, or a secret that its servers are given. Tried: a copy of the token from elsewhere, at
once, after minutes, to renew itself, after the task; and whether there is a standing secret to be exposed at all.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from remit.cli.drills.words import Tried, judged, not_tried
from remit.drivers.targets.kinds import TARGET_KINDS
from remit.services.coverage import given_to_servers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from remit.cli.drills.stage import Played, Stage, Subject
    from remit.cli.drills.words import Said
    from remit.model.drill import Step

TITLE = "LLM key hijacked within minutes of its exposure"
_NOW = Tried("a copy of the task's token, shown from elsewhere at once", "bound-tokens")
_LATER = Tried("the copy, when the token has run out and the task goes on", "identity")
_RENEW = Tried("the copy alone, to get a new token", "refused-proofs")
_AFTER = Tried("the copy, after the task has ended", "end")
_STANDING = Tried("a secret of the configuration that is exposed and goes on working", "no-standing-secrets", aside=True)


async def play(stage: Stage) -> AsyncIterator[Step]:
    """Every step, for every task type."""
    yield _standing(stage)
    for subject in stage.subjects:
        if subject.why:
            yield not_tried(_NOW, subject.why, on=subject.kind)
            continue
        async for step in _stolen(stage, subject):
            yield step


def _standing(stage: Stage) -> Step:
    if not stage.real.servers and not stage.real.targets:
        return not_tried(_STANDING, "there is no server that could be given one, and no target")
    given = given_to_servers(stage.node.folder)
    found = [f"server {name}: {', '.join(one.variables)}" for name, one in given.items() if one.variables]
    found += [f"target {name}" for name, target in stage.real.targets.items() if TARGET_KINDS[target.kind].stands]
    happened = (
        f"standing: {'; '.join(found)}" if found else "no server is given a secret of the environment, and no target has a standing one"
    )
    mend = "lease it: [targets.NAME], [[lease]] and {lease:NAME.part}; write into remit.toml what is no secret"
    return judged(_STANDING, "there is none", happened, held=not found, mend=mend)


async def _stolen(stage: Stage, subject: Subject) -> AsyncIterator[Step]:
    played = await stage.open(subject)
    copy = await stage.copied(played.task)
    call = {"tool": "drill/hijack", "arguments": {}}
    await stage.decided(played, call)
    said = await stage.ask(copy, call)
    mend = 'tokens.bound = "dpop": a copy without its key opens nothing'
    yield judged(
        _NOW, "HTTP 401", _told(said), held=said.status == 401, on=subject.kind, mend=mend, record=await _shown(stage, played, said)
    )
    renewed = await stage.say("POST", f"/v1/tasks/{played.task.id}/token", copy)
    yield judged(_RENEW, "HTTP 401", _told(renewed), held=renewed.status == 401, on=subject.kind, record=await stage.last())
    life = stage.real.settings.token_ttl + timedelta(seconds=1)
    if stage.clock() + life < played.task.deadline:
        stage.clock.pass_by(life)
        await stage.decided(await stage.renewed(played), call)
        later = await stage.ask(copy, call)
        happened = f"{_told(later)}, {int(life.total_seconds())} s later"
        yield judged(_LATER, "HTTP 401", happened, held=later.status == 401, on=subject.kind, record=await _shown(stage, played, later))
    else:
        yield not_tried(_LATER, "the task ends before its token does", on=subject.kind)
    again = await stage.copied(played.task)
    await stage.end(played)
    after = await stage.ask(again, call)
    yield judged(_AFTER, "HTTP 401", _told(after), held=after.status == 401, on=subject.kind, record=await _shown(stage, played, after))


async def _shown(stage: Stage, played: Played, said: Said) -> str:
    """A token that opens nothing makes no entry."""
    return "" if said.status == 401 else await stage.shown(played.task.id)


def _told(said: Said) -> str:
    return "HTTP 401" if said.status == 401 else f"it was let in: {said.words}"
