"""Assembles the MCP gateway of a node: like ``node.py``, of which it is a part, it chooses concrete classes."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from remit.doors.gateway.asking import Asking
from remit.doors.gateway.gate import Gate
from remit.doors.gateway.joint import Joint
from remit.doors.gateway.joint_sessions import JointLegacyDoor
from remit.doors.gateway.joint_stateless import JointModernDoor
from remit.doors.gateway.links import Links
from remit.doors.gateway.mcp import GatewayLimits, McpGateway
from remit.doors.gateway.open_streams import OpenStreams
from remit.doors.gateway.relay import Relay
from remit.drivers.base import UpstreamLimits
from remit.drivers.spans import SPANS_OFF
from remit.node_egress import EgressParts, egress_parts
from remit.services.asides import Asides

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    import aiohttp

    from remit.doors.gateway.legacy import LegacyDoor
    from remit.drivers.sealing import Sealer
    from remit.drivers.spans import Spans
    from remit.node_leases import LeaseParts
    from remit.node_tokens import TokenParts
    from remit.services.approvals import Approvals
    from remit.services.invitations import Invitations
    from remit.services.manifests import Manifests
    from remit.services.mediation import Mediation
    from remit.services.rules import Rules
    from remit.services.tasks import Tasks
    from remit.settings import Limits, Settings

_LOG = logging.getLogger("remit")


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayParts:
    """What agents come to, with MCP or with plain HTTP, and what of it has to be told when a task changes."""

    gate: Gate
    links: Links
    legacy: LegacyDoor
    streams: OpenStreams
    door: McpGateway
    egress: EgressParts


def gateway_parts(
    *,
    settings: Settings,
    mediation: Mediation,
    tasks: Tasks,
    rules: Rules,
    approvals: Approvals,
    invitations: Invitations,
    manifests: Manifests,
    leases: LeaseParts,
    tokens: TokenParts,
    sealer: Sealer,
    client: aiohttp.ClientSession,
    clock: Callable[[], datetime],
    spans: Spans = SPANS_OFF,
) -> GatewayParts:
    """The gateway on services that are there."""
    limits, asides = settings.limits, Asides(tasks, lambda: rules.rulebook)
    links = Links(
        lambda: rules.configuration.servers,
        _upstream_limits(limits),
        client,
        limits.conversations,
        leases.equipment.equipped,
        listed=manifests.listed,
        wire=leases.tripwires.passes,
        in_use=leases.rotation.in_use,
        adds_nothing=asides.adds_nothing,
        unread=asides.unread,
    )
    asking = Asking(approvals, invitations, sealer, clock, lambda: rules.rulebook.consent)
    transactions = tokens.transactions(tasks, rules, clock)
    relay = Relay(mediation, tasks, limits.result_bytes, asking, asides=asides, saw=manifests.saw, transactions=transactions, spans=spans)
    gate = Gate(tokens.bearers, tasks, clock)
    joint = Joint(
        tasks,
        lambda: rules.configuration.servers,
        sealer,
        patience_seconds=limits.joint_server_seconds,
        page_bytes_max=limits.result_bytes,
    )
    legacy, streams = JointLegacyDoor(relay, links, limits.sessions, limits.session_idle_seconds, joint), OpenStreams(tasks)
    door = McpGateway(
        gate,
        legacy,
        JointModernDoor(relay, links, asking, joint),
        streams,
        GatewayLimits(body_bytes_max=limits.body_bytes, depth_max=limits.json_depth),
        issuer=settings.issuer,
        hosts=settings.allowed_hosts,
        origins=settings.allowed_origins,
        report=lambda error: _LOG.error("a fault of remit", exc_info=error),
        spans=spans,
        known=lambda server: server in rules.configuration.servers,
    )
    egress = egress_parts(
        settings=settings,
        mediation=mediation,
        tasks=tasks,
        rules=rules,
        manifests=manifests,
        leases=leases,
        asking=asking,
        gate=gate,
        spans=spans,
    )
    return GatewayParts(gate=gate, links=links, legacy=legacy, streams=streams, door=door, egress=egress)


def _upstream_limits(limits: Limits) -> UpstreamLimits:
    return UpstreamLimits(
        message_bytes_max=limits.result_bytes,
        exchanges_max=limits.calls_under_way,
        exchange_seconds=limits.call_seconds,
        start_seconds=limits.server_start_seconds,
    )
