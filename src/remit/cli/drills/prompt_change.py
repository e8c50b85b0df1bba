"""A prompt that changes under a token that lives on: what was approved for one agent is used by what has become another one.

Tried: the change is told of through the door, and the same token asks again; taking the change back; a task whose agent says nothing of its
prompt, so that no change would ever be seen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from remit.cli.drills.words import Tried, digest, judged, not_tried
from remit.errors import RemitError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from remit.cli.drills.stage import Stage, Subject
    from remit.model.drill import Step

TITLE = "A prompt change under a long-lived token"
_CHANGED = Tried("a call under the same token, after the system prompt has changed", "drift")
_BACK = Tried("a call after the change was taken back, and nobody has looked", "drift")
_SILENT = Tried("a task whose agent does not say what its system prompt is", "drift", aside=True)
_PART = "system_prompt"


async def play(stage: Stage) -> AsyncIterator[Step]:
    """Every step, for every task type."""
    for subject in stage.subjects:
        if subject.why:
            yield not_tried(_CHANGED, subject.why, on=subject.kind)
            continue
        async for step in _changed(stage, subject):
            yield step
        yield await _silent(stage, subject)


async def _changed(stage: Stage, subject: Subject) -> AsyncIterator[Step]:
    bound = {**stage.demanded(subject), _PART: digest("as it was approved")}
    played = await stage.open(subject, bound)
    calls = stage.calls(played)
    if not calls:
        yield not_tried(_CHANGED, "its grant names no pinned tool", on=subject.kind, mend="remit pin")
        return
    words = calls[0].words
    before = await stage.decided(played, words)
    mend = f'[drift] {_PART} = "suspend" in tasks/{subject.kind}.toml'
    for tried, prompt in ((_CHANGED, "as somebody else wrote it"), (_BACK, "as it was approved")):
        await stage.changed(played, {_PART: digest(prompt)})
        after = await stage.ask(played.token, words)
        held = after.status == 401 or (after.outcome == "deny" and {"manifest_changed", "task_not_active"} & {*after.reasons})
        happened = f"before: {before.words}; after: {after.words}"
        shown = await stage.shown(played.task.id)
        yield judged(tried, "deny: manifest_changed", happened, held=bool(held), on=subject.kind, mend=mend, record=shown)


async def _silent(stage: Stage, subject: Subject) -> Step:
    parts = {part: value for part, value in stage.demanded(subject).items() if part != _PART}
    mend = f'[manifest] required = ["{_PART}"] in tasks/{subject.kind}.toml, or of the agent'
    try:
        played = await stage.open(subject, parts)
    except RemitError as refusal:
        held = refusal.code == "manifest_missing"
        return judged(
            _SILENT, "it does not begin", f"refused: {refusal.code}", held=held, on=subject.kind, mend=mend, record=await stage.last()
        )
    happened = "it began, and a change of its prompt would not be seen"
    return judged(_SILENT, "it does not begin", happened, held=False, on=subject.kind, mend=mend, record=await stage.shown(played.task.id))
