"""Reads ``[sign_in]``: where people sign in, who of them may open tasks by their consent, and which clients they may drive.

Rules: nothing is open by default. A client acts as one declared agent; two tables that one client could fit are a mistake.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from remit.errors import Mistake
from remit.logic.front_channel import check_redirect, is_document_address
from remit.model.front_channel import ClientRule, SignIn
from remit.services.reading import NAME, VARIABLE, fill, near
from remit.services.trust_configuration import ALGORITHMS, read_address, read_endpoint

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from remit.services.reading import Reader
    from remit.settings import Agent

_CLAIMS = ("email", "preferred_username", "sub")
_ALGORITHMS = ("RS256", "ES256")


def read_sign_in(root: Reader, folder: Path, agents: Mapping[str, Agent], *, console: bool = False) -> SignIn | None:
    """``[sign_in]``, or ``None`` where nobody can sign in. ``console``: people have roles there, so that it serves without clients too."""
    table = root.table("sign_in")
    if not table.data:
        return None
    endpoint = read_endpoint(table, folder)
    claim = table.value("claim", str, "email")
    if claim not in _CLAIMS:
        table.wrong(f"claim = {claim[:40]!r}", near(claim, _CLAIMS), "claim")
    alone = console and "people" not in table.data and "clients" not in table.data
    people = table.texts("people")
    if not people and not alone:
        table.wrong("nobody may consent", 'people = ["*@corp.example"]', "people")
    algorithms = table.texts("algorithms", _ALGORITHMS)
    for unknown in [one for one in algorithms if one not in ALGORITHMS]:
        table.wrong(f"algorithm {unknown[:40]!r} is not taken", near(unknown, ALGORITHMS), "algorithms")
    secret = table.value("secret", str, "")
    if secret and not VARIABLE.fullmatch(secret):
        table.wrong("a secret does not stand in remit.toml", 'secret = "${NAME}", from the environment', "secret")
        secret = ""
    elif not secret:
        table.wrong("the provider knows remit by a secret", 'secret = "${NAME}", from the environment', "secret")
    client_id = table.value("client_id", str, "")
    if not client_id:
        table.wrong("client_id is missing", "what remit is called at the provider", "client_id")
    found = SignIn(
        issuer=read_address(table, "issuer", endpoint),
        client_id=client_id,
        secret=fill(table, secret, "secret"),
        claim=claim,
        people=people,
        clients=_clients(table, agents, needed=not alone),
        audiences=table.texts("audiences"),
        algorithms=frozenset(algorithms),
        jwks_uri=read_address(table, "jwks_uri", endpoint, needed=False),
        endpoint=endpoint,
        must_push=table.value("require_par", bool, default=False),
    )
    table.done()
    return found


def _clients(table: Reader, agents: Mapping[str, Agent], *, needed: bool) -> dict[str, ClientRule]:
    found: dict[str, ClientRule] = {}
    documents: dict[str, str] = {}
    registered = ""
    for name, reader in table.tables("clients"):
        rule = _client(reader, name, agents)
        found[name] = rule
        for document in rule.documents:
            if document in documents:
                reader.wrong(f"client {documents[document]} names this document too", "one agent a client", "documents")
            documents[document] = name
        if rule.registered and registered:
            reader.wrong(f"client {registered} takes those that register themselves too", "one agent for all of them", "registered")
        registered = name if rule.registered else registered
    if not found and needed:
        table.wrong("no client is declared, so nobody gets anything", "[sign_in.clients.NAME]", "clients")
    return found


def _client(reader: Reader, name: str, agents: Mapping[str, Agent]) -> ClientRule:
    if not NAME.match(name):
        reader.wrong(f"{name!r} cannot be the name of a client", "a-z, 0-9, '-', '_'")
    agent = reader.value("agent", str, "")
    if agent not in agents:
        reader.wrong(f"agent {agent[:80]!r} is not declared", near(agent, agents), "agent")
    documents, uris = reader.texts("documents"), reader.texts("redirect_uris")
    registered = reader.value("registered", bool, default=False)
    must_push = reader.value("require_par", bool, default=False)
    for document in documents:
        if not is_document_address(document):
            reader.wrong(f"{document[:120]!r} is no address of a client metadata document", "https://host/path", "documents")
    for uri in uris:
        try:
            check_redirect(uri)
        except Mistake as mistake:
            reader.wrong(f"{uri[:120]!r}: {mistake.message}", "", "redirect_uris")
    if not documents and not uris and not registered:
        reader.wrong(f"client {name} is nobody", "documents, redirect_uris, or registered = true")
    reader.done()
    return ClientRule(name=name, agent=agent, documents=documents, redirect_uris=uris, registered=registered, must_push=must_push)
