"""The rules in force: policies, catalog and pinned tools, checked together, recorded, and swapped as one.

Rules: a set that does not hold together is not used, and the running one stays. What is activated is recorded first, and its
texts are kept under their digests, so that a decision can be recomputed under the rules of its day.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from difflib import get_close_matches
from typing import TYPE_CHECKING

from remit.errors import Mistake, Outage, Place, Refusal
from remit.logic.applications import Application
from remit.logic.egress import pinned_operations
from remit.logic.policy import Policies
from remit.logic.policy_review import Known
from remit.logic.records import encode
from remit.logic.rulebook import Rulebook
from remit.logic.rulebook_text import rulebook_text, rules_digest
from remit.logic.schema_words import missing_its_mark, origins_named
from remit.model.catalog import Effect, Kind, Trust
from remit.model.record import PolicyActivated, Record
from remit.services.reading import Mistakes
from remit.store.database import Append, MarkRow

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping
    from datetime import datetime

    from remit.logic.bundle import Bundle
    from remit.model.catalog import PinnedTool
    from remit.model.task_type import GrantTemplate
    from remit.settings import Configuration
    from remit.store.database import Row, Store

_BUNDLE = "bundle"  # the mark of the latest one


def make_rulebook(configuration: Configuration, pinned: Mapping[str, PinnedTool]) -> Rulebook:
    """Check everything against everything. Raises Mistakes. Pure but for the engine's parser.

    ``pinned``: tools of servers; operations of an egress are pinned by their configuration.
    """
    own = {name: tool for name, tool in pinned.items() if tool.server not in configuration.egresses}
    pinned = {**own, **pinned_operations(configuration.egresses)}
    found = [*_unpinned(configuration, pinned), *_misspelt(configuration, pinned), *_nowhere(configuration, pinned)]
    known = []
    for tool in pinned.values():
        facts = configuration.catalog.facts(Kind.TOOL, tool.server, tool.name, tool)
        if facts is not None:
            known.append((facts, tool))
    try:
        policies = Policies(configuration.policies, known)
    except Mistake as mistake:
        raise Mistakes([*found, mistake]) from None
    applications: dict[str, Application] = {}
    for name, files in configuration.access.applications.items():
        try:
            applications[name] = Application(files)
        except Mistake as mistake:
            found.append(mistake)
    if found:
        raise Mistakes(found)
    rulebook = Rulebook(
        policies=policies,
        catalog=configuration.catalog,
        pinned=pinned,
        classes=configuration.classes,
        digest=configuration.digest,
        applications=applications,
        consent=configuration.consent,
    )
    text = rulebook_text(rulebook, configuration.settings.limits.questions_per_task)
    return replace(rulebook, kept=rules_digest(text), kept_text=text)


def known_names(configuration: Configuration, rulebook: Rulebook) -> Known:
    """All that policies may name, to review them."""
    pinned, types = rulebook.pinned.values(), configuration.task_types.values()
    tools = {tool.id: facts for tool in pinned if (facts := rulebook.tool(Kind.TOOL, tool.server, tool.name)) is not None}
    return Known(
        tools=tools,
        servers=(*configuration.servers, *configuration.python_servers, *configuration.egresses),
        pinned={tool.server for tool in pinned},
        agents={
            agent.spiffe_id.text: (*agent.tasks, *(one.name for one in types if one.delegable and agent.name in one.delegable.to))
            for agent in configuration.agents.values()
        },
        types=tuple(configuration.task_types),
        classes=configuration.classes.names,
    )


def unanswerable(configuration: Configuration, rulebook: Rulebook) -> list[str]:
    """Granted calls that change something, and about which too few configured approvers could answer, a sentence each."""
    found = []
    for task_type in configuration.task_types.values():
        tools = {tool.id: tool for line in task_type.grants for tool in _named(line, rulebook.pinned)}
        for tool in tools.values():
            facts = rulebook.tool(Kind.TOOL, tool.server, tool.name)
            if facts is None or facts.effect is Effect.READ:
                continue
            data_class = rulebook.classes.name(rulebook.classes.rank(facts.data_class))
            why = rulebook.consent.uncovered(facts, task_type.name, data_class)
            if why:
                found.append(f"should policy ask, nobody could approve: {why}")
    return sorted(found)


class Rules:
    """Holds the rulebook in force and its configuration."""

    def __init__(self, store: Store, clock: Callable[[], datetime], configuration: Configuration, rulebook: Rulebook) -> None:
        self._store, self._clock = store, clock
        self.configuration, self.rulebook = configuration, rulebook

    async def activate(self, configuration: Configuration, rulebook: Rulebook) -> None:
        """Record, then put in force. Raises Outage, Refusal (an older bundle), and then nothing has changed."""
        policies, bundle = rulebook.policies, configuration.bundle
        rows = await self._risen(bundle) if bundle else ()
        await self._store.put_document(policies.digest, json.dumps(dict(configuration.policies), sort_keys=True))
        await self._store.put_document(policies.schema_digest, policies.schema_json)
        applications = configuration.access.applications
        for files in applications.values():
            await self._store.put_document(files.digest, files.text)
        await self._store.put_document(rulebook.kept, rulebook.kept_text)
        activated = PolicyActivated(
            policy_set=policies.digest,
            schema=policies.schema_digest,
            configuration=configuration.digest,
            policies=len(policies.ids),
            applications={name: files.digest for name, files in applications.items()},
            rulebook=rulebook.kept,
            bundle=bundle.digest if bundle else "",
            sequence=bundle.sequence if bundle else 0,
        )
        await self._store.append(Append(body=encode(Record(at=self._clock(), body=activated)), rows=rows))
        self.configuration, self.rulebook = configuration, rulebook

    async def reload(self, load: Callable[[], tuple[Configuration, Rulebook]]) -> bool:
        """Load and activate where something changed; returns whether. Raises Mistake or Outage; the running set then stays."""
        configuration, rulebook = await asyncio.to_thread(load)  # calls are decided meanwhile
        if (configuration.digest, rulebook.policies.digest, rulebook.pinned, configuration.bundle) == (
            self.configuration.digest,
            self.rulebook.policies.digest,
            self.rulebook.pinned,
            self.configuration.bundle,
        ):
            return False
        if configuration.settings != self.configuration.settings:
            raise Outage("settings of the server itself change with a restart only", code="restart_needed")
        await self.activate(configuration, rulebook)
        return True

    async def _risen(self, bundle: Bundle) -> tuple[Row, ...]:
        """The mark that a bundle sets. Raises Refusal where a later one, or another of its sequence, was in force: no rollback."""
        last = await self._store.mark(_BUNDLE)
        if last is not None and bundle.sequence < last.number:
            hint = "sign the wanted policies again with a higher sequence"
            raise Refusal(f"bundle {bundle.sequence} is older than {last.number}, which was in force", code="bundle_rollback", hint=hint)
        if last is not None and bundle.sequence == last.number and bundle.digest != last.text:
            raise Refusal(
                f"another bundle of the sequence {bundle.sequence} was in force", code="bundle_rollback", hint="sign it with a higher one"
            )
        return (MarkRow(name=_BUNDLE, number=bundle.sequence, text=bundle.digest),)


def _unpinned(configuration: Configuration, pinned: Mapping[str, PinnedTool]) -> list[Mistake]:
    """Grants of tools that their server does not have, or of a server that nobody has pinned."""
    pinned_servers = {tool.server for tool in pinned.values()}
    granted = {line.server for task_type in configuration.task_types.values() for line in task_type.grants if line.kind is Kind.TOOL}
    found = [
        Mistake(
            f"the tools of server {server} are not pinned yet",
            code="configuration",
            hint=f"remit pin {server}",
            place=Place(file="tools.lock.json"),
        )
        for server in sorted(granted - pinned_servers)
    ]
    for task_type in configuration.task_types.values():
        for line in task_type.grants:
            name = f"{line.server}/{line.name}"
            known = name.endswith("*") or name in pinned or line.server not in pinned_servers
            if line.kind is not Kind.TOOL or known:
                continue
            listed = [tool.name for tool in pinned.values() if tool.server == line.server]
            close = get_close_matches(line.name, listed, n=1)
            found.append(
                Mistake(
                    f"server {line.server} has no tool {line.name!r}",
                    code="configuration",
                    hint=f"did you mean {close[0]!r}?" if close else f"it has: {', '.join(sorted(listed)) or 'none; remit pin'}",
                    place=Place(file=f"tasks/{task_type.name}.toml", key=f'grant "{name}"'),
                )
            )
    return found


def _nowhere(configuration: Configuration, pinned: Mapping[str, PinnedTool]) -> list[Mistake]:
    """Origins from which no value can ever come: a tool that its server does not have, or one whose catalog entry trusts nothing."""
    pinned_servers = {tool.server for tool in pinned.values()}
    found = []
    for task_type in configuration.task_types.values():
        for line in task_type.grants:
            for path, origin in origins_named(line.arguments):
                why = _why_nowhere(origin, configuration, pinned, pinned_servers)
                if why:
                    key = ".".join(("grant", "arguments", *map(str, path)))
                    place = Place(file=f"tasks/{task_type.name}.toml", key=key)
                    found.append(Mistake(f"no value can come from {origin!r}: {why[0]}", code="configuration", hint=why[1], place=place))
    return found


def _why_nowhere(
    origin: str, configuration: Configuration, pinned: Mapping[str, PinnedTool], pinned_servers: Collection[str]
) -> tuple[str, str] | None:
    """Why nothing comes from an origin, and how to mend it; ``None`` where something may."""
    name, hash_sign, _ = origin.partition("#")
    server, slash, tool = name.partition("/")
    if not slash or tool == "*" or "://" in tool or server not in pinned_servers:  # a resource is not pinned
        return None
    if name not in pinned:
        listed = [one.name for one in pinned.values() if one.server == server]
        close = get_close_matches(tool, listed, n=1)
        return f"server {server} has no such tool", f"did you mean {close[0]!r}?" if close else f"it has: {', '.join(sorted(listed))}"
    facts, rules = configuration.catalog.facts(Kind.TOOL, server, tool, pinned[name]), configuration.catalog.result_rules(name)
    states = [*(rule.states for rule in rules.fields), *(rule.states for rule in rules.whens)]
    trusted = facts is not None and facts.trust is Trust.TRUSTED
    vouched = trusted or any(one.trust is Trust.TRUSTED or one.identifier for one in states)
    if not hash_sign and not vouched:
        return "nothing that it returns is trusted", f'[tools."{name}".fields], or name a field: "{name}#/field"'
    return None


def _misspelt(configuration: Configuration, pinned: Mapping[str, PinnedTool]) -> list[Mistake]:
    """Grants that narrow a property which the tool does not have (every call would fail), or by words that miss its type."""
    found = []
    for task_type in configuration.task_types.values():
        for line in task_type.grants:
            for tool in _named(line, pinned):
                for key, what, hint in _problems(line, tool):
                    place = Place(file=f"tasks/{task_type.name}.toml", key=f"grant.arguments.properties.{key}")
                    found.append(Mistake(what, code="configuration", hint=hint, place=place))
    return found


def _problems(line: GrantTemplate, tool: PinnedTool) -> Iterator[tuple[str, str, str]]:
    properties = tool.input_schema.get("properties")
    if not isinstance(properties, dict):
        return
    for name, narrowing in line.arguments.get("properties", {}).items():
        if name in properties:
            for path, what, hint in missing_its_mark(narrowing, properties[name]):
                yield ".".join(map(str, (name, *path))), f"{tool.id}: {what}", hint
        elif not line.name.endswith("*"):
            close = get_close_matches(name, properties, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"it takes: {', '.join(sorted(properties)) or 'nothing'}"
            yield name, f"{tool.id} takes no argument {name!r}", hint


def _named(line: GrantTemplate, pinned: Mapping[str, PinnedTool]) -> list[PinnedTool]:
    """The pinned tools that a line of a grant speaks of."""
    whole = f"{line.server}/{line.name}"
    if line.kind is not Kind.TOOL:
        return []
    if whole.endswith("*"):
        return [tool for name, tool in pinned.items() if name.startswith(whole[:-1])]
    return [pinned[whole]] if whole in pinned else []
