"""What an approver is shown about a question: made once, when it is asked, from the facts of that moment. Pure.

Rules: everything that strangers may have written is made visible here, for every way in which it will be shown: no control
characters, no tricks of direction, nothing that cannot be seen, one line a value. Long values are cut, with their length and
digest, and letters that look like others are named. Values are for approvers, never for the ledger.
"""

from __future__ import annotations

import json
import unicodedata
from typing import TYPE_CHECKING, Any

from remit.logic.arguments import digest_json
from remit.logic.excerpts import excerpts_of
from remit.logic.tracing import by_argument, explained
from remit.model.evidence import ArgumentShown, Evidence, Excerpt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import datetime

    from remit.model.facts import Facts
    from remit.model.origin import Traced

_VALUE_CHARACTERS_MAX = 600
_NAME_CHARACTERS_MAX = 120
_EXCERPT_CHARACTERS_MAX = 3_000  # all of it: each character may become a code point
_ARGUMENTS_MAX = 40
_STRANGE_MAX = 5
_ORIGINS_MAX = 5
_OVERLAID = frozenset(map(chr, range(0x0300, 0x0370)))  # marks that are drawn over any letter or digit


def evidence_of(
    facts: Facts,
    *,
    approval: str,
    expires_at: datetime,
    policies: Iterable[str],
    reasons: Iterable[str],
    earlier: Sequence[Mapping[str, Any]] = (),
    texts: Callable[[str], Sequence[str]] = lambda _decision: (),
) -> Evidence:
    """The evidence for a question. ``earlier``: arguments of this tool's allowed calls in this task, as far as they are known.

    ``texts``: of the result of a call, by its decision, as far as they are kept.
    """
    task, call, tool, classes = facts.task, facts.call, facts.tool, facts.classes
    names = sorted(call.arguments)
    origins = origins_of(facts)
    latest = earlier[-1] if earlier else {}
    excerpts = excerpts_of(facts, texts)
    return Evidence(
        approval=approval,
        asked_at=facts.now,
        expires_at=expires_at,
        needed=facts.terms.needed,
        task=task.id,
        type=visible(task.type),
        objective=visible(task.objective),
        agent=task.agent.text,
        on_behalf_of=visible(task.on_behalf_of),
        opened_by=visible(task.opened_by),
        call=visible(f"{call.kind} {call.id}"),
        digest=call.digest,
        effect=tool.effect.value if tool else "irreversible",
        sends=tool.sends.value if tool else "external",
        tool_class=classes.name(classes.rank(tool.data_class if tool else "")),
        data_class=classes.name(task.labels.rank),
        untrusted=task.labels.untrusted,
        arguments=tuple(
            _shown(name, call.arguments[name], origins.get(name, ()), earlier, excerpts.get(name, ())) for name in _listed(call.arguments)
        ),
        policies=tuple(visible(policy) for policy in policies),
        reasons=tuple(visible(reason) for reason in reasons),
        earlier=len(earlier),
        gone=tuple(visible(name, _NAME_CHARACTERS_MAX) for name in sorted(set(latest) - set(call.arguments))[:_ARGUMENTS_MAX]),
        left_out=max(len(names) - _ARGUMENTS_MAX, 0),
    )


def shown_whole(arguments: Mapping[str, Any]) -> frozenset[str]:
    """Names of the arguments whose values stand in the evidence character for character, nothing cut and nothing rewritten."""
    return frozenset(name for name in _listed(arguments) if visible(text := _text(arguments[name])) == text)


def origins_of(facts: Facts) -> dict[str, tuple[str, ...]]:
    """For each top-level argument, sentences that say where its parts come from."""
    told = {name: _sentences(leaves) for name, leaves in by_argument(facts.origins).items()}
    whole = {leaf.pointer for leaf in facts.origins if leaf.sources}  # what is told of the whole is not told again of its only part
    for name, leaves in by_argument(leaf for leaf in facts.references if leaf.pointer not in whole).items():
        told[name] = (*told.get(name, ()), *(f"a link or address in {sentence}" for sentence in _sentences(leaves)))
    return told


def _sentences(leaves: Sequence[Traced]) -> tuple[str, ...]:
    """Strange ones first: they are what an approver must not miss when there are many."""
    strange_first = sorted(leaves, key=lambda leaf: leaf.trusted)
    told = [visible(explained(leaf)) for leaf in strange_first[:_ORIGINS_MAX]]
    more = len(leaves) - len(told)
    return (*told, f"and {more} more parts of it") if more else tuple(told)


def evidence_lines(evidence: Evidence) -> list[str]:
    """The evidence in lines of plain text: for terminals, and for the person at an agent's client."""
    read = f"{evidence.data_class} data" + (", among it what strangers wrote" if evidence.untrusted else ", nothing of strangers")
    lines = [
        f"{evidence.call}  ({evidence.effect}, sends {evidence.sends}, {evidence.tool_class} data)",
        f"for {evidence.on_behalf_of}: {evidence.objective}",
        f"task {evidence.task} ({evidence.type}), agent {evidence.agent}, opened by {evidence.opened_by or 'unknown'}",
        f"the task has read {read}",
    ]
    for argument in evidence.arguments:
        lines.append(f"  {argument.name} = {argument.value}")
        lines += [f"    {note}" for note in (*argument.notes, *argument.origins, argument.before) if note]
    if evidence.left_out:
        lines.append(f"  and {evidence.left_out} more arguments, not shown")
    lines += [f"  {name}: not in this call, but in the one before it" for name in evidence.gone]
    lines.append(f"asked because of {', '.join(evidence.policies) or 'no policy that permits it by itself'}")
    lines.append(f"arguments {evidence.digest}; {evidence.needed} must say yes before {evidence.expires_at:%Y-%m-%d %H:%M:%S %Z}")
    return lines


def visible(text: str, characters_max: int = _VALUE_CHARACTERS_MAX) -> str:
    """Text of strangers as one line in which nothing is hidden: what cannot be seen is written as its code point."""
    shown = "".join(_character(character) for character in text[: characters_max + 1])
    return f"{shown[:characters_max]}…" if len(shown) > characters_max else shown


def _listed(arguments: Mapping[str, Any]) -> list[str]:
    return sorted(arguments)[:_ARGUMENTS_MAX]


def _text(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def _character(character: str) -> str:
    if character.isascii() and character.isprintable():
        return character
    known = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}.get(character)
    if known is not None:
        return known
    category = unicodedata.category(character)
    if category[0] in "CZ" or category == "Me" or character in _OVERLAID:
        return f"\\u{{{ord(character):x}}}"
    return character


def _shown(
    name: str,
    value: object,
    origins: tuple[str, ...],
    earlier: Sequence[Mapping[str, Any]],
    excerpts: Sequence[tuple[str, str, str, str]],
) -> ArgumentShown:
    text = _text(value)
    notes = []
    if len(text) > _VALUE_CHARACTERS_MAX:
        notes.append(f"cut: it has {len(text):,} characters, digest {digest_json(value)}")
    strange = sorted({character for character in text if not character.isascii() and character.isalnum()})
    if strange:
        names = ", ".join(f"{character} (U+{ord(character):04X})" for character in strange[:_STRANGE_MAX])
        notes.append(f"holds letters beyond ASCII: {names}" + (" and more" if len(strange) > _STRANGE_MAX else ""))
    return ArgumentShown(
        name=visible(name, _NAME_CHARACTERS_MAX),
        value=visible(text),
        notes=tuple(notes),
        origins=origins,
        before=_compared(name, value, earlier),
        excerpts=tuple(
            Excerpt(
                source=visible(source),
                before=visible(before, _EXCERPT_CHARACTERS_MAX),
                value=visible(part, _EXCERPT_CHARACTERS_MAX),
                after=visible(after, _EXCERPT_CHARACTERS_MAX),
            )
            for source, before, part, after in excerpts
        ),
    )


def _compared(name: str, value: object, earlier: Sequence[Mapping[str, Any]]) -> str:
    """How one argument compares with those of earlier calls of the same tool in this task."""
    if not earlier:
        return ""
    count = len(earlier)
    digest = digest_json(value)
    same = sum(1 for arguments in earlier if name in arguments and digest_json(arguments[name]) == digest)
    calls = "the earlier call" if count == 1 else f"all {count} earlier calls"
    if same == count:
        return f"same as in {calls}"
    latest = earlier[-1]
    was = visible(_text(latest[name]), _NAME_CHARACTERS_MAX) if name in latest else "not given"
    place = "the earlier call" if count == 1 else f"the latest of {count} earlier calls"
    return f"new: in {place} it was {was}" if not same else f"same as in {same} of {count} earlier calls"
