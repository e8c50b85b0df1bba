"""A rulebook as a text that is kept under its digest: all that a decision of that day was made from beside task and call.

Rules: what is named in the ledger is this text's digest, so it is canonical JSON and checked when it is read back. It names the
policies by their digest; their texts are kept on their own. Fields of the catalog come and go with the model: what a text does not
have takes the model's default, and what the model no longer knows is refused (the decision could not be recomputed).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from remit.errors import Broken
from remit.logic.arguments import digest_bytes, digest_json
from remit.logic.detectors import Detector
from remit.logic.policy import Policies
from remit.logic.rulebook import Catalog, CatalogEntry, Rulebook, ServerFacts
from remit.model.catalog import Kind, PinnedTool
from remit.model.labels import DataClasses

if TYPE_CHECKING:
    from collections.abc import Mapping

_FORM = "remit-rulebook/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptRules:
    """What a rulebook's text holds. ``questions_max``: questions that one task may ask."""

    policy_set: str
    catalog: Catalog
    pinned: dict[str, PinnedTool]
    classes: DataClasses
    questions_max: int


def rulebook_text(rulebook: Rulebook, questions_max: int) -> str:
    """The text of a rulebook, canonical."""
    kept = {
        "form": _FORM,
        "policy_set": rulebook.policies.digest,
        "servers": rulebook.catalog.servers,
        "entries": rulebook.catalog.entries,
        "detected": rulebook.catalog.detected,
        "pinned": rulebook.pinned,
        "classes": rulebook.classes,
        "questions_max": questions_max,
    }
    return msgspec.json.encode(kept, order="sorted").decode()


def rules_digest(text: str) -> str:
    """The name of a rulebook's text."""
    return digest_bytes(text.encode())


def read_rules(digest: str, text: str) -> KeptRules:
    """What is kept under a digest. Raises Broken where the text is not what was named, or not readable any more."""
    if rules_digest(text) != digest:
        raise Broken(f"the rules kept as {digest[:24]}… are not what the ledger names", code="kept_rules")
    try:
        data: Any = msgspec.json.decode(text)
        if data["form"] != _FORM:
            raise Broken(f"rules of the form {data['form']!r}; this remit reads {_FORM}", code="kept_rules")
        return KeptRules(
            policy_set=data["policy_set"],
            catalog=Catalog(
                servers=msgspec.convert(data["servers"], dict[str, ServerFacts]),
                entries=msgspec.convert(data["entries"], dict[str, CatalogEntry]),
                detected=msgspec.convert(data["detected"], dict[Detector, str]),
            ),
            pinned=msgspec.convert(data["pinned"], dict[str, PinnedTool]),
            classes=msgspec.convert(data["classes"], DataClasses),
            questions_max=data["questions_max"],
        )
    except (msgspec.MsgspecError, KeyError, TypeError) as error:
        raise Broken(f"the rules kept as {digest[:24]}… cannot be read: {error}", code="kept_rules") from None


def read_policies(digest: str, text: str) -> dict[str, str]:
    """Names and texts of a policy set. Raises Broken where they are not what was named."""
    files: Any = msgspec.json.decode(text)
    if not isinstance(files, dict) or digest_json(dict(sorted(files.items()))) != digest:
        raise Broken(f"the policies kept as {digest[:24]}… are not what the ledger names", code="kept_rules")
    return files


def rulebook_of(kept: KeptRules, files: Mapping[str, str], also: Mapping[str, PinnedTool] | None = None) -> Rulebook:
    """The rulebook again, or one with other policies. ``also``: tools that these may name beside those of the day. Raises Mistake."""
    pinned = {**(also or {}), **kept.pinned}
    known = []
    for tool in pinned.values():
        facts = kept.catalog.facts(Kind.TOOL, tool.server, tool.name, tool)
        if facts is not None:
            known.append((facts, tool))
    return Rulebook(policies=Policies(files, known), catalog=kept.catalog, pinned=kept.pinned, classes=kept.classes)
