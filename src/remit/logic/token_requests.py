"""Reads what is sent to the token service: forms, ``authorization_details`` (RFC 9396), resources (RFC 8707), scopes. Pure.

Rules: a parameter that stands twice is refused, as is one of a type that is not known where it would widen anything (RFC 6749 §3.2,
RFC 9396 §5); an empty one counts as absent. What a detail does not know is a mistake, never left out. The one detail that can be asked
for is the task itself: its grant follows from its type and inputs, nobody writes a grant into a request.

    {"type": "remit_task", "task_type": "pay-bill", "inputs": {"bill": "4711"}}    a new task
    {"type": "remit_task", "task": "task_…"}                                       a task that lives

A client that knows only scopes says the same with ``task:TASK_TYPE`` (a type without inputs) or ``task:task_…``.
"""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from remit.errors import Mistake
from remit.logic.arguments import parse_json
from remit.model.token import TaskWanted, TokenRequest

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

Form = dict[str, tuple[str, ...]]
DETAIL_TYPE = "remit_task"
SCOPE = "task:"
_REPEATABLE = frozenset({"resource", "audience"})  # RFC 8693 §2.1, RFC 8707 §2
_PARAMETERS_MAX = 64
_MEMBERS = {"task": str, "task_type": str, "inputs": dict, "on_behalf_of": str, "agent": str, "manifest": dict}
_DETAILS_BYTES_MAX = 65_536
_DEPTH_MAX = 16
_TEXT_MAX = 512
_LOCATIONS = "locations"


def read_form(data: bytes) -> Form:
    """Parameters of an ``application/x-www-form-urlencoded`` body. Raises Mistake (invalid_request)."""
    try:
        pairs = parse_qsl(
            data.decode("ascii"), keep_blank_values=True, strict_parsing=bool(data), errors="strict", max_num_fields=_PARAMETERS_MAX
        )
    except ValueError:  # also: not ASCII, not UTF-8 behind the percent signs
        raise Mistake("the body is no form", code="invalid_request") from None
    form: dict[str, list[str]] = {}
    for name, value in pairs:
        if value:
            form.setdefault(name, []).append(value)
    doubled = sorted(name for name, values in form.items() if len(values) > 1 and name not in _REPEATABLE)
    if doubled:
        raise Mistake(f"{doubled[0][:40]} stands twice", code="invalid_request")
    return {name: tuple(values) for name, values in form.items()}


def one(form: Form, name: str) -> str:
    """The value of a parameter, "" where it is absent."""
    return form.get(name, ("",))[0]


def token_request(form: Form) -> TokenRequest:
    """A request to the token endpoint. Raises Mistake."""
    if "grant_type" not in form:
        raise Mistake("grant_type is missing", code="invalid_request")
    named = {field.name for field in fields(TokenRequest)} - {"resources"}
    # ``audience`` (RFC 8693 §2.1) names the same places as ``resource`` here, and both must then agree
    places = (*form.get("resource", ()), *form.get("audience", ()))
    return TokenRequest(**{name: one(form, name) for name in named}, resources=places)


def task_wanted(asked: TokenRequest, default: str = "") -> TaskWanted:
    """The task that a request is about. ``default``: the type for an agent that names none ("" : it must).

    Raises Mistake (invalid_authorization_details, invalid_scope, invalid_request).
    """
    if asked.authorization_details and asked.scope:
        raise Mistake("name the task by authorization_details or by scope, not by both", code="invalid_request")
    if asked.authorization_details:
        return _detail(asked.authorization_details)
    scopes = asked.scope.split(" ") if asked.scope else []
    if not scopes and default:
        return TaskWanted(task_type=default)
    if not scopes:
        example = f'authorization_details=[{{"type":"{DETAIL_TYPE}","task_type":"NAME"}}]'
        raise Mistake("say which task the token is for", code="invalid_request", hint=example)
    if len(scopes) != 1 or not scopes[0].startswith(SCOPE) or not 0 < len(name := scopes[0].removeprefix(SCOPE)) <= _TEXT_MAX:
        raise Mistake("the scope names one task", code="invalid_scope", hint=f"{SCOPE}TASK_TYPE or {SCOPE}TASK_ID")
    return TaskWanted(task=name) if name.startswith("task_") else TaskWanted(task_type=name)


def resource_server(resources: tuple[str, ...], base: str, servers: Collection[str]) -> str:
    """The server that the resources name, "" for the whole gateway at ``base``. Raises Mistake (invalid_target)."""
    if len(set(resources)) > 1:
        raise Mistake("a token is for one resource", code="invalid_target", hint="ask once for each")
    for resource in resources:
        if resource == base:
            return ""
        name = resource.removeprefix(base + "/")
        if resource != name and name in servers and not urlsplit(resource).fragment:
            return name
        raise Mistake("there is no such resource here", code="invalid_target", hint=f"{base}, or {base}/SERVER")
    return ""


def _detail(text: str) -> TaskWanted:
    try:
        details = parse_json(text.encode(), depth_max=_DEPTH_MAX, bytes_max=_DETAILS_BYTES_MAX)
    except (Mistake, UnicodeEncodeError) as error:
        raise _wrong("authorization_details is no JSON" + (f": {error.message}" if isinstance(error, Mistake) else "")) from None
    if not isinstance(details, list) or len(details) != 1 or not isinstance(details[0], dict):
        raise _wrong("authorization_details is a list of one object")
    detail: dict[str, Any] = dict(details[0])
    if detail.pop("type", None) != DETAIL_TYPE:
        raise _wrong(f"the type of a detail is {DETAIL_TYPE}")
    for name, value in detail.items():
        if name not in _MEMBERS:
            raise _wrong(f"{name[:40]!r} is not known in {DETAIL_TYPE}", f"its members: {', '.join(_MEMBERS)}")
        if not _fits(value, _MEMBERS[name]):
            raise _wrong(f"{name} has a wrong value", "an object" if _MEMBERS[name] is dict else f"a string of 1 to {_TEXT_MAX} characters")
    wanted = TaskWanted(**detail)
    if not _texts(wanted.manifest):
        raise _wrong("manifest has a wrong value", "digests by part, as strings")
    if bool(wanted.task) == bool(wanted.task_type):
        raise _wrong(f"a {DETAIL_TYPE} names task_type or task, one of them")
    if wanted.task and set(detail) != {"task"}:
        raise _wrong("a task that lives is named by task alone")
    return wanted


def _fits(value: object, kind: type) -> bool:
    return 0 < len(value) <= _TEXT_MAX if kind is str and isinstance(value, str) else isinstance(value, kind)


def _texts(value: Mapping[str, Any]) -> bool:
    return all(isinstance(member, str) for member in value.values())


def _wrong(what: str, hint: str = "") -> Mistake:
    return Mistake(what, code="invalid_authorization_details", hint=hint)
