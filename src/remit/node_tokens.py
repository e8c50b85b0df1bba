"""Assembles the token service of a node: like ``node.py``, of which it is a part, it chooses concrete classes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from remit.doors.oauth.front import FrontDoor
from remit.doors.oauth.service import TokenDoor
from remit.drivers.base import HttpServer
from remit.drivers.key_ring import KeyRing
from remit.drivers.keys import token_key
from remit.drivers.sealing import Sealer
from remit.drivers.signing import TokenSigner
from remit.services.bearers import Bearers
from remit.services.callers import Callers
from remit.services.clients import Clients
from remit.services.declared import Declared
from remit.services.exchange import Exchange
from remit.services.front_channel import FrontChannel, make_front
from remit.services.introspection import Introspection
from remit.services.missions import Missions
from remit.services.possession import Possessions
from remit.services.pushed_requests import PushedRequests
from remit.services.refusals import Refusals
from remit.services.rotation import Rotation
from remit.services.status_lists import StatusLists, StatusNumbers
from remit.services.tokens import Tokens
from remit.services.transactions import Transactions

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping
    from datetime import datetime

    from remit.drivers.keys import Keys
    from remit.services.identities import Identities
    from remit.services.opening import Dispatcher
    from remit.services.presenting import Presenting
    from remit.services.replays import Replays
    from remit.services.rules import Rules
    from remit.services.tasks import Tasks
    from remit.settings import Agent, Configuration
    from remit.store.database import Store

_TRANSACTION_TTL_MAX = timedelta(minutes=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenParts:
    """What gives, checks and binds tokens."""

    signer: KeyRing
    rotation: Rotation
    replays: Replays
    possessions: Possessions
    tokens: Tokens
    bearers: Bearers
    transaction_signer: TokenSigner
    front_sealer: Sealer
    pushed: PushedRequests

    def transactions(self, tasks: Tasks, rules: Rules, clock: Callable[[], datetime]) -> Transactions:
        """Transaction tokens for the servers that ask for them."""
        settings = rules.configuration.settings
        return Transactions(
            self.transaction_signer,
            tasks,
            clock,
            issuer=settings.issuer,
            trust_domain=settings.trust_domain,
            ttl=min(timedelta(seconds=settings.limits.call_seconds), _TRANSACTION_TTL_MAX),
            servers=lambda: {
                name for name, server in rules.configuration.servers.items() if isinstance(server, HttpServer) and server.txn_token
            },
        )


def token_parts(
    configuration: Configuration,
    keys: Keys,
    store: Store,
    tasks: Tasks,
    clock: Callable[[], datetime],
    new_id: Callable[[str], str],
    replays: Replays,
) -> TokenParts:
    """The parts that other services stand on. Raises Mistake for keys that cannot be trusted."""
    settings, rules = configuration.settings, configuration.tokens
    signer = KeyRing(settings.keys, keys.folder_key)
    numbers = StatusNumbers(store, new_id) if rules.status_list else None
    tokens = Tokens(tasks, signer, clock, new_id, issuer=settings.issuer, token_ttl=settings.token_ttl, rules=rules, numbers=numbers)
    age_max = timedelta(days=rules.rotate_days) if rules.rotate_days else None
    front_sealer = Sealer(keys.derived("front channel"))
    possessions = Possessions(keys.derived("DPoP nonces"), replays, clock, alone=not settings.storage_url)
    return TokenParts(
        signer=signer,
        rotation=Rotation(signer, store, clock, tokens.forget, age_max=age_max),
        replays=replays,
        possessions=possessions,
        tokens=tokens,
        bearers=Bearers(tokens, possessions),
        transaction_signer=TokenSigner(token_key(settings.keys / "transactions.key", keys.folder_key)),
        front_sealer=front_sealer,
        pushed=PushedRequests(store, replays, front_sealer, clock),
    )


def token_doors(
    parts: TokenParts,
    rules: Rules,
    identities: Identities,
    dispatcher: Dispatcher,
    tasks: Tasks,
    store: Store,
    clock: Callable[[], datetime],
    end_task: Callable[[str], Awaitable[None]],
    presenting: Presenting,
) -> tuple[TokenDoor | FrontDoor, ...]:
    """The doors of a node's token service: for programs, and where people may sign in for them too."""
    issuer, token_rules = rules.configuration.settings.issuer, rules.configuration.tokens
    audiences = (issuer, f"{issuer}/oauth/token") if token_rules.endpoint_audience else (issuer,)

    def agents() -> Mapping[str, Agent]:
        return rules.configuration.agents

    def servers() -> Collection[str]:
        return rules.configuration.servers

    front = _front(parts, rules, dispatcher, tasks, store, clock, end_task)
    clients, refusals = Clients(identities, Declared(agents), parts.replays, clock, audiences=audiences), Refusals(store, clock)
    door = TokenDoor(
        exchange=Exchange(
            clients,
            parts.possessions,
            dispatcher,
            tasks,
            parts.tokens,
            refusals,
            presenting,
            clock,
            agents=agents,
            servers=servers,
            person=front.people.proved if front else None,
            codes=front.codes if front else None,
        ),
        introspection=Introspection(clients, parts.tokens, refusals, issuer=issuer, mission=token_rules.mission),
        missions=Missions(tasks, parts.tokens, parts.signer, clock, end_task, issuer=issuer, served=token_rules.mission),
        callers=Callers(parts.bearers, identities, lambda: rules.configuration.access),
        lists=StatusLists(store, tasks, parts.signer, clock, issuer=issuer) if token_rules.status_list else None,
        possessions=parts.possessions,
        signers=(parts.signer, parts.transaction_signer),
        rules=token_rules,
        issuer=issuer,
        servers=servers,
        front=front.clients if front else None,
    )
    return (door, FrontDoor(channel=front, issuer=issuer, possessions=parts.possessions)) if front else (door,)


def _front(
    parts: TokenParts,
    rules: Rules,
    dispatcher: Dispatcher,
    tasks: Tasks,
    store: Store,
    clock: Callable[[], datetime],
    end_task: Callable[[str], Awaitable[None]],
) -> FrontChannel | None:
    settings = rules.configuration.settings
    return make_front(
        rules.configuration.sign_in,
        dispatcher,
        tasks,
        rules,
        parts.replays,
        parts.front_sealer,
        store,
        parts.pushed,
        parts.possessions,
        clock,
        issuer=settings.issuer,
        end_task=end_task,
        document_bytes_max=settings.limits.trust_document_bytes,
        fetch_seconds_max=settings.limits.trust_fetch_seconds,
    )
