"""A log store that exposed credentials: whoever reads logs has what was written into them.

Tried: a task with a mark of ours in its arguments and results, a token and a proof of identity in use; then all that remit wrote (its
ledger, its log, what it answers to anybody) is looked through for them, and what looks like a credential there is shown at a door. Command
lines and addresses of servers stand in process lists and logs of others: no value of the environment may be in them.
"""

from __future__ import annotations

import re
import stat
from typing import TYPE_CHECKING

from remit.cli.drills.stage import DRILL
from remit.cli.drills.words import Tried, judged, not_tried
from remit.services.coverage import given_to_servers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from remit.cli.drills.stage import Stage, Subject
    from remit.model.drill import Step

TITLE = "A log store that exposed credentials"
MARK = "drill-mark-5f0c1d7be24a49d8"
_LINES = Tried("command lines and addresses of servers, looked through for values of the environment", "no-standing-secrets", aside=True)
_FILES = Tried("files of remit that others on this machine can read", "no-secret-in-logs", aside=True)
_WRITTEN = Tried(
    "the ledger, the log and the open answers, looked through for what was said and for what opens a door", "no-secret-in-logs"
)
_SHOWN = Tried("everything in the ledger that looks like a credential, shown at a door", "refused-proofs")
_LIKE_ONE = re.compile(r"[A-Za-z0-9_-]{20,}(?:\.[A-Za-z0-9_-]{10,}){0,2}")
_SHOWN_MAX = 100


async def play(stage: Stage) -> AsyncIterator[Step]:
    """The configuration, then every task type."""
    yield _lines(stage)
    yield _files(stage)
    for subject in stage.subjects:
        if subject.why:
            yield not_tried(_WRITTEN, subject.why, on=subject.kind)
            continue
        async for step in _written(stage, subject):
            yield step


def _lines(stage: Stage) -> Step:
    if not stage.real.servers:
        return not_tried(_LINES, "there is no server")
    given = {name: one.shown for name, one in given_to_servers(stage.node.folder).items() if one.shown}
    happened = "; ".join(f"server {name}: {', '.join(names)}" for name, names in given.items()) or "none is"
    mend = "give it as env or as a header, better as a lease: [targets.NAME] and {lease:NAME.part}"
    return judged(_LINES, "none is in them", happened, held=not given, mend=mend)


def _files(stage: Stage) -> Step:
    settings = stage.real.settings
    paths: list[Path] = [settings.keys, *settings.keys.glob("*.key")]
    paths += [] if settings.storage_url else [settings.storage, *settings.storage.parent.glob(f"{settings.storage.name}-*")]
    there = [path for path in paths if path.exists()]
    if not there:
        return not_tried(_FILES, "there is no store yet", mend="remit serve, or remit run, makes it")
    open_to_others = [path.name for path in there if _readable(path)]
    happened = f"others can read {', '.join(open_to_others)}" if open_to_others else f"none of {len(there)}"
    return judged(
        _FILES, "there is none", happened, held=not open_to_others, mend="chmod o-rwx, and a folder that only remit's account enters"
    )


def _readable(path: Path) -> bool:
    """Whether an account that is no member of the group can read it: every folder above must let it through."""
    above = all(folder.stat().st_mode & stat.S_IXOTH for folder in path.absolute().parents)
    return above and bool(path.stat().st_mode & stat.S_IROTH)


async def _written(stage: Stage, subject: Subject) -> AsyncIterator[Step]:
    logged = len(stage.logged)
    played = await stage.open(subject)
    svid = await stage.node.identities.issue_svid(subject.agent, attested=DRILL)
    for call in stage.calls(played)[:3]:
        await stage.decided(played, {"tool": call.tool.id, "arguments": {**call.arguments, "drill": MARK}})
        said = await stage.decided(played, call.words)
        if said.outcome == "allow":
            await stage.observed(played, said, {"text": MARK})
    await stage.say("POST", f"/v1/tasks/{played.task.id}/token", f"{svid[:-8]}{MARK[:8]}")
    await stage.say("GET", f"/v1/tasks/{played.task.id}", svid)
    await stage.node.tasks.settle()
    ledger = "\n".join(entry.body.decode() for entry in await stage.node.store.task_entries(played.task.id))
    answers = [str((await stage.say("GET", path)).body) for path in ("/ledger/checkpoint", "/openapi.json", "/spiffe/bundle")]
    places = {"the ledger": ledger + await _tail(stage), "the log": "\n".join(stage.logged[logged:]), "open answers": "\n".join(answers)}
    secrets = {"a value of a call": MARK, "the task's token": played.token, "a proof of identity": svid}
    found = [f"{what} in {where}" for where, text in places.items() for what, secret in secrets.items() if secret in text]
    record = await stage.shown(played.task.id)
    yield judged(_WRITTEN, "they are nowhere", "; ".join(found) or "they are nowhere", held=not found, on=subject.kind, record=record)
    candidates = list(dict.fromkeys(_LIKE_ONE.findall(places["the ledger"])))[:_SHOWN_MAX]
    opened = [one for one in candidates if (await stage.say("GET", f"/v1/tasks/{played.task.id}", one)).status < 400]
    happened = f"{len(opened)} of {len(candidates)} opened it"
    yield judged(_SHOWN, "none opens it", happened, held=not opened, on=subject.kind, record=await stage.last())


async def _tail(stage: Stage) -> str:
    """The newest entries of the stage's ledger, of whatever task."""
    size = await stage.node.store.change_mark()
    return "\n".join(entry.body.decode() for entry in await stage.node.store.entries(max(size - 1_000, 0), 1_000))
