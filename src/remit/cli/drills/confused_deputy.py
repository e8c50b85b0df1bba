"""The confused deputy: a token that was passed on is used by whoever got it, where it was not meant for, with the giver's rights.

Tried: a token for one server at another; a token of the whole task, as a server would show it that it was passed to; another agent that
presents it at the token service as its own; and whether a server is sent anything that opens a door.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from remit.cli.drills.stage import DRILL
from remit.cli.drills.words import Tried, judged, not_tried
from remit.services.exchange import ACCESS_TOKEN, JWT, TOKEN_EXCHANGE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from remit.cli.drills.stage import Played, Stage
    from remit.cli.drills.words import Said
    from remit.model.drill import Step

TITLE = "Confused deputy over a token that was passed on"
_ELSEWHERE = Tried("a token for one server, shown at another", "refused-proofs")
_PASSED = Tried("the task's token, shown at the gateway by a server that it was passed to", "bound-tokens")
_OWN = Tried("another agent exchanges it for one of its own", "refused-proofs")
_SENT = Tried("what a server is sent with a call, looked through for what opens a door", "no-passing-on")


async def play(stage: Stage) -> AsyncIterator[Step]:
    """Every step, for every task type."""
    for subject in stage.subjects:
        if subject.why:
            yield not_tried(_PASSED, subject.why, on=subject.kind)
            continue
        played = await stage.open(subject)
        yield await _elsewhere(stage, played)
        yield await _passed(stage, played)
        yield await _own(stage, played)
        yield await _sent(stage, played)


async def _elsewhere(stage: Stage, played: Played) -> Step:
    on, servers = played.subject.kind, sorted(stage.real.servers)
    if len(servers) == 1:
        return not_tried(_ELSEWHERE, "there is one server only", on=on)
    if not servers:
        return not_tried(_ELSEWHERE, "there is no MCP server", on=on)
    given = await stage.node.tokens.give(played.task.id, DRILL, server=servers[0], unbound_is_well=True)
    if (await stage.mcp(servers[0], given.token, "tools/list", {})).status >= 400:
        return not_tried(_ELSEWHERE, f"the token does not even open {servers[0]}", on=on)
    said = await stage.mcp(servers[1], given.token, "tools/list", {})
    return judged(_ELSEWHERE, "HTTP 401", _told(said), held=said.status == 401, on=f"{on}: {servers[0]} at {servers[1]}")


async def _passed(stage: Stage, played: Played) -> Step:
    on, servers = played.subject.kind, sorted(stage.real.servers)
    own, said = await _shown(stage, servers, played.token), await _shown(stage, servers, await stage.copied(played.task))
    if own.status >= 400:
        return not_tried(_PASSED, f"the door is closed to the honest agent too: {_told(own)}", on=on)
    mend = 'tokens.bound = "dpop": who is passed a token cannot use it'
    return judged(_PASSED, "HTTP 401", _told(said), held=said.status == 401, on=on, mend=mend)


async def _shown(stage: Stage, servers: list[str], token: str) -> Said:
    """What a door answers to a token."""
    return await (
        stage.mcp(servers[0], token, "tools/list", {}) if servers else stage.ask(token, {"tool": "drill/deputy", "arguments": {}})
    )


async def _own(stage: Stage, played: Played) -> Step:
    on, agent = played.subject.kind, played.subject.agent
    other = next((name for name in sorted(stage.real.agents) if name != agent), "")
    if not other:
        return not_tried(_OWN, "there is one agent only", on=on)
    own, said = await _exchanged(stage, played, agent), await _exchanged(stage, played, other)
    record, happened = await stage.last(), f"HTTP {said.status}: {_why(said) or 'it was given a token'}"
    if said.status >= 400 and _why(said) == _why(own):
        return not_tried(_OWN, f"the exchange is refused to everybody here: {_why(own)}", on=on)
    return judged(_OWN, "refused, as its own is not", happened, held=said.status >= 400, on=f"{on}: {other}", record=record)


async def _exchanged(stage: Stage, played: Played, agent: str) -> Said:
    """The token service's answer to an agent that presents the task's token."""
    svid = await stage.node.identities.issue_svid(agent, attested=DRILL)
    form = {
        "grant_type": TOKEN_EXCHANGE,
        "subject_token": played.token,
        "subject_token_type": ACCESS_TOKEN,
        "actor_token": svid,
        "actor_token_type": JWT,
    }
    return await stage.say("POST", "/oauth/token", form=form)


def _why(said: Said) -> str:
    """What the token service says of a refusal; "" : it gave a token."""
    return str(said.body.get("error_description") or said.body.get("error") or "") if isinstance(said.body, dict) else ""


async def _sent(stage: Stage, played: Played) -> Step:
    on = played.subject.kind
    calls = [call for call in stage.calls(played) if call.tool.server in stage.real.servers]
    found = await stage.allowed(played, calls)
    if found is None:
        return not_tried(_SENT, "no made-up call of an MCP server is allowed without a person", on=on)
    call, server = found[0], found[0].tool.server
    await stage.mcp(server, played.token, "tools/call", {"name": call.tool.name, "arguments": call.arguments})
    heard = stage.heard(server)
    if '"tools/call"' not in heard:
        return not_tried(_SENT, "the call was refused at the gateway", on=on)
    leaked = played.token in heard
    happened = f"the task's token was {'' if leaked else 'not '}in {heard.count(chr(10))} messages to {server}'s stand-in"
    return judged(_SENT, "nothing", happened, held=not leaked, on=on, record=await stage.shown(played.task.id))


def _told(said: Said) -> str:
    return f"HTTP {said.status}" if said.status >= 400 else f"it was let in: HTTP {said.status}"
