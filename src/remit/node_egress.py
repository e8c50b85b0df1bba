"""Assembles the egress of a node: like ``node.py``, of which it is a part, it chooses concrete classes."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from remit.doors.gateway.egress import EgressDoor
from remit.doors.gateway.egress_calls import EgressBounds, EgressCalls
from remit.drivers.egress_http import EgressClient

if TYPE_CHECKING:
    from remit.doors.gateway.asking import Asking
    from remit.doors.gateway.gate import Gate
    from remit.drivers.spans import Spans
    from remit.node_leases import LeaseParts
    from remit.services.manifests import Manifests
    from remit.services.mediation import Mediation
    from remit.services.rules import Rules
    from remit.services.tasks import Tasks
    from remit.settings import Settings

_LOG = logging.getLogger("remit")


@dataclass(frozen=True, slots=True, kw_only=True)
class EgressParts:
    """What agents come to with plain HTTP, and what of it has to be told when a task ends."""

    calls: EgressCalls
    door: EgressDoor


def egress_parts(
    *,
    settings: Settings,
    mediation: Mediation,
    tasks: Tasks,
    rules: Rules,
    manifests: Manifests,
    leases: LeaseParts,
    asking: Asking,
    gate: Gate,
    spans: Spans,
) -> EgressParts:
    """The egress on services that are there."""
    limits = settings.limits
    calls = EgressCalls(
        mediation,
        tasks,
        EgressClient(bytes_max=limits.result_bytes, seconds_max=limits.call_seconds),
        asking,
        egresses=lambda: rules.configuration.egresses,
        saw=manifests.saw,
        equip=leases.equipment.of_egress,
        in_use=leases.rotation.in_use,
        passes=leases.tripwires.passes,
        bounds=EgressBounds(task=limits.calls_under_way, all=limits.conversations),
        depth_max=limits.json_depth,
        spans=spans,
    )
    door = EgressDoor(
        gate,
        calls,
        issuer=settings.issuer,
        hosts=settings.allowed_hosts,
        origins=settings.allowed_origins,
        body_bytes_max=limits.body_bytes,
        report=lambda error: _LOG.error("a fault of remit", exc_info=error),
    )
    return EgressParts(calls=calls, door=door)
