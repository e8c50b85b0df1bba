"""Reads ``[trust.issuers.NAME]`` and ``[trust.domains."NAME"]``: whom we believe about identities beside ourselves.

Rules: nothing is believed by default. What could give one token two identities, or one identity two meanings, is a mistake and not a
choice made at run time. Left out: our own domain (``services/configuration.py``), but for its key-encryption key, and how proofs are
checked (``services/identities.py``).
"""

from __future__ import annotations

import ipaddress
import itertools
import re
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from remit.drivers.key_encryption import check_source
from remit.errors import Mistake
from remit.logic.identity_mapping import may_fit_one_token, may_make, may_meet, parse_template
from remit.model.identity import SpiffeId
from remit.model.trust import DomainRule, Endpoint, IdentityRule, IssuerRule, TrustRules
from remit.services.reading import NAME, near

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from remit.model.trust import Network
    from remit.services.reading import Reader
    from remit.settings import Agent, Settings

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "Ed25519")
_DEFAULT_ALGORITHMS = ("RS256", "ES256")
_SOCKET = re.compile(r"unix:///[^?#\0]+\Z")
_URL = re.compile(r"https?://[A-Za-z0-9.\-_\[\]:]{1,260}(/[\x21-\x7e]*)?\Z")
_URL_CHARACTERS_MAX = 2_048
_DEFAULT, _MOST = timedelta(hours=1), timedelta(hours=24)
_WANTED = 'required = { repository_owner = "acme" }: text, whole numbers or true and false, or a list of them'


def read_trust(trust: Reader, folder: Path, settings: Settings) -> TrustRules:
    """Read both tables; mistakes are noted at the reader."""
    issuers: dict[str, IssuerRule] = {}
    made: list[tuple[Reader, IssuerRule, IdentityRule]] = []
    for name, table in trust.tables("issuers"):
        rule = _issuer(table, name, folder, settings, made)
        if rule is None:
            continue
        if rule.issuer in issuers:
            table.wrong(f"issuer {issuers[rule.issuer].name} has this URL too", "one table an issuer", "issuer")
        issuers[rule.issuer] = rule
    _check_apart(made)
    domains = {}
    for name, table in trust.tables("domains"):
        if (domain := _domain(table, name, folder, settings)) is not None:
            domains[name] = domain
    return TrustRules(issuers=issuers, domains=domains)


def check_agents(root: Reader, agents: Iterable[Agent], trust: TrustRules) -> None:
    """An agent that an issuer's tokens may name says so: its ID is written down, and not only made of its name."""
    for agent, issuer in itertools.product(agents, trust.issuers.values()):
        if "spiffe_id" in root.data["agents"][agent.name] or not any(may_make(rule, agent.spiffe_id) for rule in issuer.identities):
            continue
        hint = f'spiffe_id = "{agent.spiffe_id}" says that this is meant; or give the mapping a path of its own'
        root.wrong(f"tokens of issuer {issuer.name} can name agent {agent.name}", hint, "agents", agent.name)


def _issuer(
    table: Reader, name: str, folder: Path, settings: Settings, made: list[tuple[Reader, IssuerRule, IdentityRule]]
) -> IssuerRule | None:
    if not NAME.match(name):
        table.wrong(f"{name!r} cannot be the name of an issuer", "a-z, 0-9, '-', '_'")
    endpoint = read_endpoint(table, folder)
    issuer = read_address(table, "issuer", endpoint)
    if issuer == settings.issuer:
        table.wrong("this is our own issuer", "tokens of our own are known without this table", "issuer")
    algorithms = table.texts("algorithms", _DEFAULT_ALGORITHMS)
    for unknown in [one for one in algorithms if one not in ALGORITHMS]:
        table.wrong(f"algorithm {unknown[:40]!r} is not taken", near(unknown, ALGORITHMS), "algorithms")
    if not algorithms:
        table.wrong("no algorithm is taken, so no token is", f"of {', '.join(ALGORITHMS)}", "algorithms")
    audience = table.value("audience", str, settings.issuer)
    if not audience:
        table.wrong("audience is empty", "what tokens for us say in aud", "audience")
    jwks_uri = read_address(table, "jwks_uri", endpoint, needed=False)
    readers = table.each("identity")
    identities = [(reader, rule) for reader in readers if (rule := _identity(reader, settings)) is not None]
    if not readers:
        table.wrong(f"issuer {name} has no mapping, so no token of it is anybody", f"[[trust.issuers.{name}.identity]]")
    lifetime = table.duration("max_lifetime", _DEFAULT, _MOST)
    table.done()
    if not issuer:
        return None
    found = IssuerRule(
        name=name,
        issuer=issuer,
        audience=audience,
        identities=tuple(one for _, one in identities),
        algorithms=frozenset(algorithms),
        jwks_uri=jwks_uri,
        lifetime_max=lifetime,
        endpoint=endpoint,
    )
    made += [(reader, found, one) for reader, one in identities]
    return found


def _identity(table: Reader, settings: Settings) -> IdentityRule | None:
    required = table.table("required")
    values = {name: _scalars(required, name) for name in required.data}
    if not values:
        table.wrong("a mapping without required claims would take every token of the issuer", _WANTED, "required")
    text = table.value("spiffe_id", str, "")
    table.done()
    try:
        domain, parts = parse_template(text)
    except Mistake as mistake:
        table.wrong(mistake.message, mistake.hint, "spiffe_id")
        return None
    if domain != settings.trust_domain:
        what = f"{domain!r} is not our trust domain, and an issuer is no SPIFFE authority of another"
        table.wrong(what, f"spiffe://{settings.trust_domain}/…", "spiffe_id")
        return None
    return IdentityRule(required=tuple(values.items()), trust_domain=domain, parts=parts)


def _scalars(table: Reader, name: str) -> frozenset[tuple[type, str | int | bool]]:
    table.read.add(name)
    value = table.data[name]
    values = value if isinstance(value, list) else [value]
    if not values or not all(isinstance(one, str | int | bool) for one in values):
        table.wrong(f"claim {name} cannot be required to be that", _WANTED, name)
        return frozenset()
    return frozenset((type(one), one) for one in values)


def _check_apart(made: list[tuple[Reader, IssuerRule, IdentityRule]]) -> None:
    for (_, issuer, one), (table, theirs, other) in itertools.combinations(made, 2):
        if issuer.name == theirs.name and may_fit_one_token(one, other):
            table.wrong(
                "a token could fit this mapping and an earlier one, and have two identities",
                "let both require the same claim, with different values",
                "required",
            )
        elif (issuer.name != theirs.name or one.parts != other.parts) and may_meet(one, other):
            whose = "an earlier mapping" if issuer.name == theirs.name else f"issuer {issuer.name}"
            table.wrong(f"{whose} can make the same SPIFFE IDs", "one path of its own for each", "spiffe_id")


def _domain(table: Reader, name: str, folder: Path, settings: Settings) -> DomainRule | None:
    try:
        SpiffeId.parse(f"spiffe://{name}/x")
    except Mistake:
        table.wrong(f"{name!r} is not a trust domain", "lower-case letters, digits, '.', '_', '-'")
        return None
    if name == settings.trust_domain:
        table.wrong("this is our own trust domain", "its bundle is ours")
    endpoint = read_endpoint(table, folder)
    file, url = table.value("bundle_file", str, ""), read_address(table, "bundle_url", endpoint, needed=False)
    socket = table.value("workload_api", str, "")
    if [bool(file), "bundle_url" in table.data, bool(socket)].count(True) != 1:
        table.wrong(f"trust domain {name} needs either bundle_file or bundle_url or workload_api", 'bundle_url = "https://…/spiffe/bundle"')
    if socket and not _SOCKET.match(socket):
        table.wrong(f"workload_api = {socket[:120]!r} is no Unix socket", "unix:///run/spire/agent.sock", "workload_api")
    if url.startswith("http://"):
        table.wrong("a bundle is fetched over https", "SPIFFE Federation, profile https_web", "bundle_url")
    table.done()
    return DomainRule(domain=name, bundle_file=str(folder / file) if file else "", bundle_url=url, workload_api=socket, endpoint=endpoint)


def read_endpoint(table: Reader, folder: Path) -> Endpoint:
    """How documents of theirs are fetched: ``networks``, ``ca_file``, ``keys_max_age``."""
    networks: list[Network] = []
    for text in table.texts("networks"):
        try:
            networks.append(ipaddress.ip_network(text))
        except ValueError:
            table.wrong(f"{text[:60]!r} is no network", '"10.1.0.0/16", "127.0.0.1/32"', "networks")
    ca_file = table.value("ca_file", str, "")
    return Endpoint(
        networks=tuple(networks),
        ca_file=str(folder / ca_file) if ca_file else "",
        age_max=table.duration("keys_max_age", _DEFAULT, _MOST),
    )


def read_address(table: Reader, key: str, endpoint: Endpoint, *, needed: bool = True) -> str:
    """An https URL; http only to an address of this machine that ``networks`` allows."""
    text = table.value(key, str, "")
    if not needed and key not in table.data:
        return ""
    try:
        split = urlsplit(text)
        host, port = split.hostname or "", split.port
    except ValueError:
        host, port, split = "", None, urlsplit("")
    if not _URL.match(text) or len(text) > _URL_CHARACTERS_MAX or not host or port == 0 or split.query or split.fragment or "@" in text:
        table.wrong(f"{key} = {text[:120]!r} is no address", "https://host, perhaps with a path; nothing else in it", key)
        return ""
    if split.scheme == "http" and not _loopback(host, endpoint.networks):
        table.wrong(f"{key} is not https", "https://…; http:// only to 127.0.0.1 or [::1], with networks that allow it", key)
        return ""
    return text


def _loopback(host: str, networks: tuple[Network, ...]) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback and any(address in network for network in networks)


def read_key_encryption(trust: Reader) -> str:
    """Where the key-encryption key is, by ``[trust] key_encryption``; "": nowhere."""
    source = trust.value("key_encryption", str, "")
    try:
        if source:
            check_source(source)
    except Mistake as mistake:
        trust.wrong(mistake.message, mistake.hint, "key_encryption")
    return source
