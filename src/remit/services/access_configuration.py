"""Reads the table ``[access]`` and the folders ``access/NAME``: who may ask the decision API, and about which resources.

Rules: as all of the configuration: every mistake at once, nothing guessed. A secret is named, never written: ``${VARIABLE}``.
Left out: whether policies and entities hold together (``logic/applications.py``, with the rest of the rulebook).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from typing import TYPE_CHECKING, Any

import msgspec

from remit.errors import Broken, Mistake, Place
from remit.logic.arguments import digest_json, parse_json
from remit.logic.task_questions import TASK_BOUND
from remit.model.access import AccessRules, ApplicationFiles, CallerRule, Entity
from remit.services.reading import near, read_text, read_texts

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from remit.services.reading import Reader

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}\Z")
_WHOLE_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}\Z")
_SECRET_CHARACTERS_MIN = 16
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1", "[::1]"})


class _Group(msgspec.Struct, forbid_unknown_fields=True):
    type: str
    id: str


class _Entity(msgspec.Struct, forbid_unknown_fields=True):
    """One entry of ``entities.json``, in AuthZEN's words; ``in``: groups it belongs to."""

    type: str
    id: str
    properties: dict[str, Any] = {}
    within: list[_Group] = msgspec.field(default_factory=list, name="in")


def read_access(root: Reader, folder: Path, agents: Collection[str], host: str) -> AccessRules:
    """Read the table; mistakes are noted at the reader."""
    access = root.table("access")
    everybody = access.value("anyone_on_loopback_may_ask", bool, default=False)
    if everybody and host not in _LOOPBACK:
        access.wrong(
            f"anyone_on_loopback_may_ask while server.host is {host}", "only where server.host is 127.0.0.1", "anyone_on_loopback_may_ask"
        )
    applications = {name: _application(table, folder, name) for name, table in access.tables("applications")}
    pairs: dict[tuple[str, str], str] = {}
    for files in applications.values():
        for pair in [(subject, resource) for subject in files.subjects for resource in files.resources]:
            if pairs.setdefault(pair, files.name) != files.name:
                what = f"{files.name} and {pairs[pair]} both answer for subject {pair[0]!r} and resource {pair[1]!r}"
                access.wrong(what, "one application a pair of types", "applications", files.name)
    callers = {name: _caller(table, name, agents, applications) for name, table in access.tables("callers")}
    digests = [caller.secret_digest for caller in callers.values() if caller.secret_digest]
    if len(set(digests)) != len(digests):
        access.wrong("two callers have the same secret", "one secret a caller", "callers")
    access.done()
    return AccessRules(anyone_on_loopback_may_ask=everybody, callers=callers, applications=applications)


def _caller(table: Reader, name: str, agents: Collection[str], applications: Collection[str]) -> CallerRule:
    agent, secret = table.value("agent", str, ""), table.value("secret", str, "")
    if bool(agent) == bool(secret):
        table.wrong(f"caller {name} needs either agent or secret", 'agent = "NAME", or secret = "${VARIABLE}"')
    if agent and agent not in agents:
        table.wrong(f"there is no agent {agent!r}", near(agent, agents), "agent")
    asked, tasks = table.texts("applications"), table.value("tasks", bool, default=False)
    for unknown in [one for one in asked if one not in applications]:
        table.wrong(f"there is no application {unknown!r}", near(unknown, applications), "applications")
    if not asked and not tasks:
        table.wrong(f"caller {name} may ask nothing", 'applications = ["NAME"], or tasks = true')
    digest = hashlib.sha256(_secret(table, secret).encode()).digest() if secret else b""
    table.done()
    return CallerRule(name=name, secret_digest=digest, agent=agent, applications=asked, tasks=tasks)


def _secret(table: Reader, text: str) -> str:
    variable = _WHOLE_VARIABLE.match(text)
    if not variable:
        table.wrong("secret must name a variable of the environment", 'secret = "${VARIABLE}"', "secret")
        return text
    value = os.environ.get(variable.group(1), "")
    if len(value) < _SECRET_CHARACTERS_MIN:
        what = "is missing" if not value else f"is shorter than {_SECRET_CHARACTERS_MIN} characters"
        table.wrong(f"{variable.group(1)} {what} in the environment", "openssl rand -base64 32", "secret")
    return value


def _application(table: Reader, folder: Path, name: str) -> ApplicationFiles:
    if not _NAME.match(name):
        table.wrong(f"{name!r} cannot be the name of an application", "a-z, 0-9, '-', '_'")
        name = "unnamed"  # it names a folder
    lists = {key: table.texts(key) for key in ("subjects", "resources", "actions")}
    for key, words in lists.items():
        if not words or len(set(words)) != len(words) or "" in words:
            table.wrong(f"{key} must be a list of different names", f'{key} = ["…"]', key)
    for taken in sorted(TASK_BOUND & {*lists["resources"]}):
        table.wrong(f"resources of type {taken!r} are those of the gateway", "another name", "resources")
    explain = table.value("explain", bool, default=False)
    table.done()
    policies = {file: text for file, text in read_texts(folder, f"access/{name}", ".cedar", table.found).items() if text is not None}
    schema, entities = _file(table, folder, f"access/{name}/schema.cedarschema"), _file(table, folder, f"access/{name}/entities.json")
    whole = {
        "policies": policies,
        "entities": entities,
        "schema": schema,
        "explain": explain,
        **{key: list(words) for key, words in lists.items()},
    }
    return ApplicationFiles(
        name=name,
        subjects=lists["subjects"],
        resources=lists["resources"],
        actions=lists["actions"],
        explain=explain,
        policies=policies,
        entities=_entities(table, f"access/{name}/entities.json", entities),
        schema=schema,
        text=json.dumps(whole, sort_keys=True),
        digest=digest_json(whole),
    )


def _file(table: Reader, folder: Path, name: str) -> str:
    """A file that may be absent."""
    if not os.path.lexists(folder / name):
        return ""
    try:
        return read_text(folder / name, name)
    except Mistake as mistake:
        table.found.append(mistake)
        return ""


def _entities(table: Reader, name: str, text: str) -> tuple[Entity, ...]:
    if not text:
        return ()
    try:
        return _listed(text)
    except (Mistake, msgspec.ValidationError) as error:
        hint = '[{"type": "…", "id": "…", "properties": {…}, "in": [{"type": "…", "id": "…"}]}]'
        table.found.append(Mistake(str(error), code="configuration", hint=hint, place=Place(file=name)))
        return ()


def kept_application(name: str, digest: str, text: str) -> ApplicationFiles:
    """An application again, from the text that is kept under its digest. Raises Broken where it is not what was named."""
    try:
        whole: Any = msgspec.json.decode(text)
        if digest_json(whole) != digest:
            raise Broken(f"the rules kept as {digest[:24]}… are not what the ledger names", code="kept_rules")
        return ApplicationFiles(
            name=name,
            subjects=tuple(whole["subjects"]),
            resources=tuple(whole["resources"]),
            actions=tuple(whole["actions"]),
            explain=whole["explain"],
            policies=whole["policies"],
            entities=_listed(whole["entities"]) if whole["entities"] else (),
            schema=whole["schema"],
            text=text,
            digest=digest,
        )
    except (msgspec.MsgspecError, Mistake, KeyError, TypeError) as error:
        raise Broken(f"the rules kept as {digest[:24]}… cannot be read: {error}", code="kept_rules") from None


def _listed(text: str) -> tuple[Entity, ...]:
    """Raises Mistake, ValidationError."""
    listed = msgspec.convert(parse_json(text.encode()), list[_Entity])
    return tuple(
        Entity(type=one.type, id=one.id, properties=one.properties, within=tuple((up.type, up.id) for up in one.within)) for one in listed
    )
