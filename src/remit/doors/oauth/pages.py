"""The pages of the front channel: choose a task, look at its grant, consent or not. Every text is escaped here.

Rules: what a client calls itself is shown as its own word; where it would be sent is shown as it is. What cannot be undone and what
leaves the house is said in so many words, first.
"""

from __future__ import annotations

import json
from html import escape
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from remit.doors.html import page, row
from remit.model.catalog import Effect, Sends
from remit.model.front_channel import Known

if TYPE_CHECKING:
    from remit.model.front_channel import PublicClient
    from remit.model.grant import Grant
    from remit.model.task_type import Input, TaskType
    from remit.services.front_channel import Granted, Offer

_LINES_MAX = 100
_RULE_CHARACTERS_MAX = 500
_WORDS = {
    "const": "exactly",
    "enum": "one of",
    "maximum": "at most",
    "minimum": "at least",
    "maxLength": "characters at most:",
    "maxItems": "entries at most:",
    "pattern": "as in",
    "origin": "only from",
    "type": "any",
}
_KNOWN = {
    Known.DECLARED: "written down in the configuration of remit",
    Known.DOCUMENT: "known by its document at",
    Known.REGISTERED: "registered itself; nobody has checked what it calls itself",
}
_EFFECTS = {
    Effect.READ: "reads",
    Effect.WRITE: "changes things",
    Effect.IRREVERSIBLE: "cannot be undone",
}


def choose_page(offer: Offer) -> str:
    """All task types that the client's agent may be given, with their inputs."""
    types = [offer.chosen] if offer.chosen else list(offer.types)
    forms = "".join(_type(one, offer, alone=len(types) == 1) for one in types)
    none = "" if types else f'<p class="warn">Agent {escape(offer.client.agent)} may be given no task.</p>'
    wrong = f'<p class="warn" role="alert">{escape(offer.wrong)}</p>' if offer.wrong else ""
    return page(
        "What should it do for you?",
        f"<p>You are signed in as <strong>{escape(offer.person)}</strong>.</p>{wrong}{_who(offer)}{none}{forms}{_leave()}",
    )


def consent_page(offer: Offer) -> str:
    """One task with its grant, and the two answers."""
    assert offer.chosen is not None, "a grant is shown of a task that was chosen"
    kind, shown = offer.chosen, offer.grants[:_LINES_MAX]
    dangers = [one for one in shown if _is_danger(one)]
    plain = [one for one in shown if not _is_danger(one)]
    more = f'<p class="warn">and {len(offer.grants) - len(shown)} more</p>' if len(offer.grants) > len(shown) else ""
    inputs = "".join(row(escape(name), f"<code>{escape(_text(value))}</code>") for name, value in offer.inputs.items())
    minutes = int(kind.deadline.total_seconds() // 60)
    bounds = f"{kind.budget.calls} calls within {minutes} minutes, data up to {escape(kind.data_ceiling)}"
    return page(
        "May it do this for you?",
        f"<p>You are signed in as <strong>{escape(offer.person)}</strong>. The task runs on your behalf, and ends with its deadline.</p>"
        f"{_who(offer)}"
        f"<h2>The task</h2><dl>{row('What', escape(offer.objective))}{inputs}{row('At most', bounds)}</dl>"
        + (f'<h2 class="warn">With care</h2><dl>{"".join(map(_line, dangers))}</dl>' if dangers else "")
        + (f"<h2>It may use</h2><dl>{''.join(map(_line, plain))}</dl>" if plain else "")
        + more
        + '<p class="soft">Every call is decided again when it is made, and recorded. remit task revoke ends it at once.</p>'
        f'<form method="post"><input type="hidden" name="form" value="{escape(offer.form)}">'
        '<div class="answers"><button class="no" name="answer" value="deny">No</button>'  # first: the Enter key presses it
        '<button class="yes" name="answer" value="consent">Open this task</button></div></form>',
    )


def notice(title: str, text: str, hint: str = "") -> str:
    """A few words."""
    return page(escape(title), f"<p>{escape(text)}</p>" + (f'<p class="soft">{escape(hint)}</p>' if hint else ""))


def _who(offer: Offer) -> str:
    client = offer.client
    where = urlsplit(offer.returns_to)
    own = where.hostname in {"127.0.0.1", "::1", "localhost"}
    place = "a program on this machine" if own else where.netloc or f"the program for {where.scheme}:"
    warning = "" if client.known is not Known.REGISTERED else ' <span class="warn">Go on only if you have just started it yourself.</span>'
    return (
        f"<h2>Who asks</h2><dl>{row('A program that calls itself', f'<strong>{escape(client.name) or _nameless(client)}</strong>')}"
        f"{row('It is', escape(_known(client)) + warning)}"
        f"{row('It gets the answer at', f'<code>{escape(place)}</code>')}"
        f"{row('It acts as agent', f'<code>{escape(client.agent)}</code>')}</dl>"
    )


def _known(client: PublicClient) -> str:
    return f"{_KNOWN[client.known]} {client.id}" if client.known is Known.DOCUMENT else _KNOWN[client.known]


def _nameless(client: PublicClient) -> str:
    return "(nothing)" if client.known is Known.REGISTERED else escape(client.id)


def _type(kind: TaskType, offer: Offer, *, alone: bool) -> str:
    fields = "".join(_field(kind, one, offer) for one in kind.inputs)
    focus = " autofocus" if alone and not kind.inputs else ""
    return (
        f"<h2>{escape(kind.name)}</h2><p>{escape(kind.objective)}</p>"
        f'<form method="post"><input type="hidden" name="task_type" value="{escape(kind.name)}">{fields}'
        f'<button class="go" name="answer" value="look"{focus}>Look at what it may do</button></form>'
    )


def _field(kind: TaskType, one: Input, offer: Offer) -> str:
    name = f"{kind.name}.{one.name}"
    value = offer.inputs.get(one.name, one.default)
    label = f'<label for="{escape(name)}">{escape(one.description or one.name)}</label>'
    if one.schema.get("type") == "boolean":
        options = "".join(
            f'<option value="{word}"{" selected" if value is (word == "true") else ""}>{said}</option>'
            for word, said in (("false", "no"), ("true", "yes"))
        )
        return f'{label}<select id="{escape(name)}" name="input.{escape(one.name)}">{options}</select>'
    if isinstance(choices := one.schema.get("enum"), list):
        options = "".join(f"<option{' selected' if value == choice else ''}>{escape(_text(choice))}</option>" for choice in choices)
        return f'{label}<select id="{escape(name)}" name="input.{escape(one.name)}">{options}</select>'
    number = ' inputmode="numeric"' if one.schema.get("type") == "integer" else ""
    given = escape(_text(value)) if value is not None else ""
    required = " required" if one.default is None else ""
    return (
        f'{label}<input id="{escape(name)}" name="input.{escape(one.name)}" value="{given}" maxlength="4000" '
        f'autocomplete="off"{number}{required}>'
    )


def _leave() -> str:
    return '<form method="post"><button class="no" name="answer" value="deny">None of this</button></form>'


def _line(one: Granted) -> str:
    facts = one.facts
    if facts is None:
        return row(escape(one.grant.id), "nobody has declared it, so it will be refused")
    said = [_EFFECTS[facts.effect]]
    if facts.sends is not Sends.NOWHERE:
        said.append(
            "sends what it is given out of the house" if facts.sends is Sends.EXTERNAL else "sends what it is given on, inside the house"
        )
    said.append(f"holds {facts.data_class} data")
    style = ' class="warn"' if _is_danger(one) else ' class="soft"'
    limits = "".join(f"<p>{escape(limit)}</p>" for limit in _limits(one.grant))
    return row(f"<code>{escape(one.grant.id)}</code>", f"<p{style}>{escape(', '.join(said))}</p>{limits}")


def _limits(grant: Grant) -> list[str]:
    """What holds for the arguments, and how often, in words."""
    narrowing = json.loads(grant.arguments) if grant.arguments else {}
    rules = narrowing.get("properties", {})
    found = [
        f"{name}: {', '.join(_rule(word, value) for word, value in sorted(rule.items()))}"
        for name, rule in sorted(rules.items())
        if isinstance(rule, dict) and rule
    ]
    more = [] if set(narrowing) <= {"properties"} else ["and further limits of its task type"]
    often = [] if grant.uses is None else ["once" if grant.uses == 1 else f"{grant.uses} times at most"]
    return [*(found or ([] if more else ["with any arguments"])), *more, *often]


def _rule(word: str, value: object) -> str:
    text = _text(value) if word in {"const", "pattern"} else json.dumps(value, ensure_ascii=False)
    if isinstance(value, list):
        text = ", ".join(map(_text, value))
    return (_WORDS.get(word, word) + " " + text)[:_RULE_CHARACTERS_MAX]


def _is_danger(one: Granted) -> bool:
    return one.facts is not None and (one.facts.effect is Effect.IRREVERSIBLE or one.facts.sends is Sends.EXTERNAL)


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
