"""The ASGI application of a node: its doors, side by side. Nothing is decided here, only which path is whose."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from remit.doors.api.access import AccessDoor
from remit.doors.api.app import api_app
from remit.doors.api.leases import LeasesApi
from remit.doors.gateway.egress import is_egress
from remit.node import new_id
from remit.node_tokens import token_doors
from remit.services.access import Access
from remit.services.access_search import AccessSearch
from remit.services.callers import Callers

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.types import ASGIApp, Receive, Scope, Send

    from remit.node import Node


def application(node: Node) -> ASGIApp:
    """The ASGI application of a node: the gateway's paths go to the gateway, all others to the API."""
    api = api_of(node)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"] if scope["type"] == "http" else ""
        door = node.gateway.egress.door if is_egress(path) else node.gateway.door if path.startswith(("/mcp", "/run/")) else api
        await door(scope, receive, send)

    return app


def api_of(node: Node) -> Starlette:
    """The API of a node, beside the gateway."""
    parts, door = node.token_parts, node.door
    tokens = token_doors(
        parts, node.rules, node.identities, node.dispatcher, node.tasks, node.store, node.clock, door.end_task, door.presenting
    )
    return api_app(
        access=_access_door(node),
        more=[*node.transparency.doors, *node.signals.doors, *(route for one in tokens for route in one.routes())],
        approvals=node.approvals,
        invitations=node.invitations,
        leases=LeasesApi(bearers=parts.bearers, issuer=node.configuration.settings.issuer, tasks=node.tasks, clock=node.clock),
        nonce=parts.bearers.nonce,
        door=node.door,
        ledger=node.ledger,
        signer=node.signer,
        trust_bundle=node.workload.authority.bundle,
        settings=node.configuration.settings,
    )


def _access_door(node: Node) -> AccessDoor:
    """The decision API of a node."""
    rules, limits = node.rules, node.configuration.settings.limits
    access = Access(
        node.mediation,
        node.tasks,
        node.store,
        lambda: rules.rulebook,
        node.clock,
        new_id,
        trust_domain=node.configuration.settings.trust_domain,
        agents=lambda: {agent.name: agent.spiffe_id for agent in rules.configuration.agents.values()},
        permit_ttl=timedelta(seconds=limits.permit_seconds),
        sealer=node.sealer if node.configuration.settings.ledger.keep_values else None,
    )
    return AccessDoor(
        access=access,
        searches=AccessSearch(access, node.mediation, lambda: rules.rulebook, node.clock, page_max=limits.search_page),
        callers=Callers(node.token_parts.bearers, node.identities, lambda: rules.configuration.access),
        issuer=node.configuration.settings.issuer,
        hosts=frozenset(node.configuration.settings.allowed_hosts),
        body_bytes_max=limits.body_bytes,
        depth_max=limits.json_depth,
        evaluations_max=limits.evaluations_per_request,
        signed=node.signer.sign,
        nonce=node.token_parts.bearers.nonce,
    )
