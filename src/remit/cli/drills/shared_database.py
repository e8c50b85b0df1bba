"""Agent keys leaked from a shared database: who copies the database is every agent at once.

Tried, with a copy of the stage's store in the thief's hands while a task works: to find a token or proof in it, to show what looks like
one, to be another agent, and to go on after the agent was stopped. And whether any two agents are one key.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from typing import TYPE_CHECKING

from remit.cli.drills.leaked_logs import MARK
from remit.cli.drills.stage import DRILL
from remit.cli.drills.words import Tried, judged, not_tried
from remit.services.reading import FILE, parsed, read_text

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from remit.cli.drills.stage import Stage, Subject
    from remit.model.drill import Step

TITLE = "Agent keys leaked from a shared database"
_KEYS = Tried("the declared keys of agents, looked through for one that several have", "identity", aside=True)
_IN_TOML = Tried("the database's own password, looked for in remit.toml", "no-secret-in-logs", aside=True)
_COPY = Tried("a copy of the database, looked through for what opens a door", "no-secret-in-logs")
_SHOWN = Tried("everything in the copy that looks like a credential, shown at a door", "refused-proofs")
_OTHER = Tried("another agent's proof, shown for the task", "refused-proofs")
_STOPPED = Tried("the stolen token and a stolen proof, after the agent was stopped", "stop")
_LIKE_ONE = re.compile(rb"[A-Za-z0-9_-]{20,}(?:\.[A-Za-z0-9_-]{10,}){0,2}")
_SHOWN_MAX = 200
_WITH_PASSWORD = re.compile(r"://[^/@:]*:(?!\$\{)[^/@]+@|[?&]password=(?!\$\{)")


async def play(stage: Stage) -> AsyncIterator[Step]:
    """The configuration, then every task type."""
    yield _keys(stage)
    yield _password(stage)
    for subject in stage.subjects:
        if subject.why:
            yield not_tried(_COPY, subject.why, on=subject.kind)
            continue
        async for step in _copied(stage, subject):
            yield step


def _keys(stage: Stage) -> Step:
    owners: defaultdict[str, set[str]] = defaultdict(set)
    for agent in stage.real.agents.values():
        for key in agent.keys:
            public = {name: value for name, value in key.items() if name in {"kty", "crv", "x", "y", "n", "e"}}
            owners[json.dumps(public, sort_keys=True)].add(agent.name)
    if not owners:
        return not_tried(_KEYS, "no agent has a declared key: they prove themselves by SVIDs or tokens of issuers")
    shared = [" and ".join(sorted(names)) for names in owners.values() if len(names) > 1]
    happened = f"one key is {'; one is '.join(shared)}" if shared else f"{len(owners)} keys, each of one agent"
    return judged(_KEYS, "each key is one agent's", happened, held=not shared, mend="a key of its own for each agent: [agents.NAME] keys")


def _password(stage: Stage) -> Step:
    storage = parsed(FILE, read_text(stage.node.folder / FILE, FILE)).data.get("storage", {})
    url = str(storage.get("url", "")) if isinstance(storage, dict) else ""
    if not url:
        return not_tried(_IN_TOML, "the store is a file: there is no password")
    held = not _WITH_PASSWORD.search(url)
    happened = "it is not in it" if held else "it stands in it"
    return judged(_IN_TOML, "it is not in it", happened, held=held, mend='url = "postgresql://user:${NAME}@host/database"')


async def _copied(stage: Stage, subject: Subject) -> AsyncIterator[Step]:
    on = subject.kind
    played = await stage.open(subject)
    svid = await stage.node.identities.issue_svid(subject.agent, attested=DRILL)
    found = await stage.allowed(played)
    if found is not None:
        await stage.observed(played, found[1], {"text": MARK})
    await stage.node.tasks.settle()
    copy = b"".join(path.read_bytes() for path in sorted(stage.scratch.glob("remit.db*")))
    secrets = {"the task's token": played.token, "a proof of identity": svid, "a value of a result": MARK}
    inside = [what for what, secret in secrets.items() if secret.encode() in copy]
    record = await stage.shown(played.task.id)
    happened = f"{', '.join(inside) or 'nothing'} in {len(copy)} bytes"
    yield judged(_COPY, "nothing is in it", happened, held=not inside, on=on, record=record)
    candidates = list(dict.fromkeys(_LIKE_ONE.findall(copy)))[-_SHOWN_MAX:]
    opened = [one for one in candidates if (await stage.say("GET", f"/v1/tasks/{played.task.id}", one.decode())).status < 400]
    yield judged(
        _SHOWN, "none opens it", f"{len(opened)} of {len(candidates)} opened it", held=not opened, on=on, record=await stage.last()
    )
    other = next((name for name in sorted(stage.real.agents) if name != subject.agent), "")
    if other:
        proof, path = await stage.node.identities.issue_svid(other, attested=DRILL), f"/v1/tasks/{played.task.id}"
        own, said = await stage.say("GET", path, svid), await stage.say("GET", path, proof)
        held, happened = own.status < 400 <= said.status, f"HTTP {said.status}, and its own agent HTTP {own.status}"
        yield judged(_OTHER, "HTTP 404", happened, held=held, on=f"{on}: {other}", record=await stage.last())
    else:
        yield not_tried(_OTHER, "there is one agent only", on=on)
    agent = stage.real.agents[subject.agent].spiffe_id.text
    await stage.decided(played, {"tool": "drill/thief", "arguments": {}})  # it speaks for the task until then
    await stage.node.tasks.standing.stop([agent], by=DRILL)
    try:
        said = await stage.ask(played.token, {"tool": "drill/thief", "arguments": {}})
        again = await stage.say("POST", "/v1/tasks", svid, {"type": subject.kind, "inputs": dict(subject.inputs)})
        held = said.outcome != "allow" and (said.status == 401 or "agent_stopped" in said.reasons) and again.status >= 400
        code = again.body.get("code", "") if isinstance(again.body, dict) else ""
        happened = f"token: {said.words}; a new task: HTTP {again.status} {code}".rstrip()
        yield judged(_STOPPED, "both are refused", happened, held=held, on=on, record=await stage.last())
    finally:
        await stage.node.tasks.standing.restore([agent], by=DRILL)
