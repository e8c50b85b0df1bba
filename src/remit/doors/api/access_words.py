"""AuthZEN Authorization API 1.0, its words: from JSON to questions, and nothing more.

Rules: unknown members are ignored (§5), what is known must be of its type, and names have bounds. Text of an error says where.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

import msgspec

from remit.errors import Mistake
from remit.model.access import Entity, Question, Semantic, Sought
from remit.services.access_search import Page

Json = dict[str, Any]
T = TypeVar("T")
_Type = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
_Id = Annotated[str, msgspec.Meta(min_length=1, max_length=2048)]


class Identified(msgspec.Struct):
    """A subject or a resource."""

    type: _Type
    id: _Id
    properties: Json | None = None


class SoughtEntity(msgspec.Struct):
    """What a search looks for: its type. Properties that are given must be those of what is found."""

    type: _Type
    properties: Json | None = None


class ActionWords(msgspec.Struct):
    """An action."""

    name: _Type
    properties: Json | None = None


class Evaluation(msgspec.Struct):
    """One question."""

    subject: Identified
    action: ActionWords
    resource: Identified
    context: Json | None = None


class PageWords(msgspec.Struct):
    """What is wanted of the results."""

    token: str = ""
    limit: Annotated[int, msgspec.Meta(ge=1)] | None = None


class SubjectSearch(msgspec.Struct):
    """Who may?"""

    subject: SoughtEntity
    action: ActionWords
    resource: Identified
    context: Json | None = None
    page: PageWords | None = None


class ResourceSearch(msgspec.Struct):
    """On what may it?"""

    subject: Identified
    action: ActionWords
    resource: SoughtEntity
    context: Json | None = None
    page: PageWords | None = None


class ActionSearch(msgspec.Struct):
    """What may it?"""

    subject: Identified
    resource: Identified
    context: Json | None = None
    page: PageWords | None = None


_SEARCHES: dict[Sought, type[SubjectSearch | ResourceSearch | ActionSearch]] = {
    Sought.SUBJECT: SubjectSearch,
    Sought.RESOURCE: ResourceSearch,
    Sought.ACTION: ActionSearch,
}
_DEFAULTS = ("subject", "action", "resource", "context")


def question(body: object) -> Question:
    """One evaluation. Raises Mistake."""
    words = _converted(body, Evaluation)
    return Question(
        subject=_entity(words.subject),
        action=words.action.name,
        resource=_entity(words.resource),
        action_properties=words.action.properties or {},
        context=words.context or {},
    )


def questions(body: object, most: int) -> tuple[list[Question | Mistake], Semantic] | None:
    """Many evaluations, with what is wrong with one in its place; ``None`` where there is but the one of the top level.

    An item's own member replaces the whole default (§7.1.1). Raises Mistake.
    """
    if not isinstance(body, dict):
        raise Mistake("the body must be an object", code="body")
    items, options = body.get("evaluations"), body.get("options")
    if items is None or items == []:
        return None
    if not isinstance(items, list):
        raise Mistake("evaluations must be an array", code="body")
    if len(items) > most:
        raise Mistake(f"{len(items):,} evaluations are more than the {most:,} that one request may hold", code="body")
    defaults = {name: body[name] for name in _DEFAULTS if name in body}
    if not all(isinstance(member, dict) for member in defaults.values()):
        raise Mistake("subject, action, resource and context must be objects", code="body")
    if options is not None and not isinstance(options, dict):
        raise Mistake("options must be an object", code="body")
    wanted = (options or {}).get("evaluations_semantic", Semantic.EXECUTE_ALL.value)
    try:
        semantic = Semantic(wanted)
    except ValueError:
        raise Mistake(f"evaluations_semantic must be one of: {', '.join(Semantic)}", code="body") from None
    return [_item(defaults, item) for item in items], semantic


def search(body: object, sought: Sought) -> tuple[Question, Page]:
    """A search. What is sought has a type only; its id is ignored (§8). Raises Mistake."""
    words = _converted(body, _SEARCHES[sought])
    action = words.action if isinstance(words, SubjectSearch | ResourceSearch) else None
    asked = Question(
        subject=_entity(words.subject),
        action=action.name if action else "",
        resource=_entity(words.resource),
        action_properties=(action.properties if action else None) or {},
        context=words.context or {},
    )
    page = words.page or PageWords()
    return asked, Page(token=page.token, limit=page.limit or 0)


def _item(defaults: Json, item: object) -> Question | Mistake:
    if not isinstance(item, dict):
        return Mistake("an evaluation must be an object", code="body")
    try:
        return question({**defaults, **{name: item[name] for name in _DEFAULTS if name in item}})
    except Mistake as mistake:
        return mistake


def _entity(words: Identified | SoughtEntity) -> Entity:
    name = words.id if isinstance(words, Identified) else ""
    return Entity(type=words.type, id=name, properties=words.properties or {})


def _converted(body: object, kind: type[T]) -> T:
    try:
        return msgspec.convert(body, kind)
    except msgspec.ValidationError as error:
        raise Mistake(str(error), code="body") from None
