"""What is in force: the catalog, the pinned tools and the policies, as one value that is swapped whole.

Rules: what nobody declared is unknown, and unknown is the worst. A server's annotations count only where the
configuration says so (MCP: annotations are untrusted unless the server is).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from remit.logic.consent import Consent
from remit.logic.detectors import Detector
from remit.logic.labelling import ResultRules
from remit.model.catalog import Effect, Kind, PinnedTool, Sends, ToolFacts, Trust

if TYPE_CHECKING:
    from collections.abc import Mapping

    from remit.logic.applications import Application
    from remit.logic.policy import Policies
    from remit.model.labels import DataClasses


_NO_RULES = ResultRules()
_REMEMBERED_MAX = 4_096


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogEntry:
    """What the configuration states of a tool, a resource pattern or a whole server; ``None`` is not stated.

    ``selectors``: the arguments that say who, where or which. ``result``: of parts of the result.
    """

    effect: Effect | None = None
    data_class: str | None = None
    trust: Trust | None = None
    sends: Sends | None = None
    selectors: tuple[str, ...] | None = None
    result: ResultRules = _NO_RULES
    detect: tuple[Detector, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFacts:
    """What the configuration states of a server: defaults for its tools, and whether its annotations are believed."""

    defaults: CatalogEntry = CatalogEntry()
    trust_annotations: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalog:
    """``entries`` by ``server/name``; a trailing ``*`` matches a beginning, and the longest match counts.

    ``detected``: the data class that a finding of a detector makes; not stated: the highest.
    """

    servers: Mapping[str, ServerFacts]
    entries: Mapping[str, CatalogEntry] = field(default_factory=dict)
    detected: Mapping[Detector, str] = field(default_factory=dict)
    _rules: dict[str, ResultRules] = field(default_factory=dict, init=False, compare=False, repr=False)

    def facts(self, kind: Kind, server: str, name: str, pinned: PinnedTool | None) -> ToolFacts | None:
        """The facts of one tool, resource or prompt; ``None`` where nobody has declared it."""
        known = self.servers.get(server)
        if known is None or (kind is Kind.TOOL and pinned is None):
            return None
        digest = pinned.digest if pinned else ""
        facts = ToolFacts(kind=kind, server=server, name=name, digest=digest)
        if kind is not Kind.TOOL:  # reading a resource or a prompt changes nothing and says nothing but its own name
            facts = replace(facts, effect=Effect.READ, sends=Sends.INTERNAL)
        if pinned is not None and known.trust_annotations:
            facts = _hinted(facts, pinned.annotations)
        for entry in (known.defaults, self._entry(f"{server}/{name}")):
            facts = _stated(facts, entry)
        return facts

    def result_rules(self, call: str) -> ResultRules:
        """What is stated of parts of a result, and what is looked for in it. Remembered."""
        found = self._rules.get(call)
        if found is None:
            if len(self._rules) >= _REMEMBERED_MAX:  # resources have as many names as anybody likes
                self._rules.clear()
            found = self._rules[call] = self._result_rules(call)
        return found

    def _result_rules(self, call: str) -> ResultRules:
        entry, server = self._entry(call), self.servers.get(call.partition("/")[0])
        detect = entry.detect if entry.detect is not None else server.defaults.detect if server else None
        if not detect:
            return entry.result
        return replace(entry.result, detect=tuple((one, self.detected.get(one, "")) for one in detect))

    def _entry(self, name: str) -> CatalogEntry:
        if name in self.entries:
            return self.entries[name]
        matching = [key for key in self.entries if key.endswith("*") and name.startswith(key[:-1])]
        return self.entries[max(matching, key=len)] if matching else CatalogEntry()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rulebook:
    """Everything of the configuration that may sway a decision. ``digest`` names it in the ledger. It remembers facts.

    ``kept_text``: itself as it is kept (``logic/rulebook_text.py``), ``kept`` that text's digest ("" : not kept).
    """

    policies: Policies
    catalog: Catalog
    pinned: Mapping[str, PinnedTool]
    classes: DataClasses
    digest: str = ""
    applications: Mapping[str, Application] = field(default_factory=dict)
    kept: str = ""
    kept_text: str = field(default="", compare=False, repr=False)
    consent: Consent = field(default_factory=Consent)
    _tools: dict[str, ToolFacts | None] = field(default_factory=dict, init=False, compare=False, repr=False)

    def tool(self, kind: Kind, server: str, name: str) -> ToolFacts | None:
        """The facts of a tool, resource or prompt."""
        if kind is not Kind.TOOL:
            return self.catalog.facts(kind, server, name, None)
        key = f"{server}/{name}"
        found = self._tools.get(key)
        if found is None and (pinned := self.pinned.get(key)) is not None:  # what is pinned is bounded, what is asked for is not
            found = self._tools[key] = self.catalog.facts(kind, server, name, pinned)
        return found


def _stated(facts: ToolFacts, entry: CatalogEntry) -> ToolFacts:
    stated = {
        "effect": entry.effect,
        "data_class": entry.data_class,
        "trust": entry.trust,
        "sends": entry.sends,
        "selectors": entry.selectors,
    }
    given: dict[str, Any] = {key: value for key, value in stated.items() if value is not None}
    return replace(facts, **given)


def says_it_changes(annotations: Mapping[str, object]) -> bool:
    """Whether a server says in so many words that its tool is more than a read: a reason to doubt a catalog that calls it one."""
    return annotations.get("readOnlyHint") is False or ("readOnlyHint" not in annotations and annotations.get("destructiveHint") is True)


def _hinted(facts: ToolFacts, annotations: Mapping[str, object]) -> ToolFacts:
    """MCP tool annotations with the defaults of the specification: not read-only, destructive, open world."""
    if annotations.get("readOnlyHint") is True:
        effect = Effect.READ
    elif annotations.get("destructiveHint") is False:
        effect = Effect.WRITE
    else:
        effect = Effect.IRREVERSIBLE
    sends = Sends.INTERNAL if annotations.get("openWorldHint") is False else Sends.EXTERNAL
    return replace(facts, effect=effect, sends=sends)
