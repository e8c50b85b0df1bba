"""Assembles the SPIFFE side of a node: the X.509 authority, who gets SVIDs, and the Workload API's socket. Part of ``node.py``."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from remit.doors.workload.api import WorkloadApi
from remit.doors.workload.listener import SocketLimits, workload_socket
from remit.drivers.processes import Processes
from remit.drivers.sealing import Sealer
from remit.services.authority import Authority
from remit.services.workloads import Workloads

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from datetime import datetime
    from pathlib import Path

    from remit.drivers.keys import Keys
    from remit.drivers.signing import TokenSigner
    from remit.services.rules import Rules
    from remit.services.tasks import Tasks
    from remit.settings import Settings
    from remit.store.database import Store


@dataclass(slots=True, kw_only=True)
class WorkloadParts:
    """What a node has for workloads."""

    authority: Authority
    workloads: Workloads
    processes: Processes
    settings: Settings
    clock: Callable[[], datetime]
    look_every_seconds: float = 2.0  # how often a stream sees whether its process is still what it was

    @contextlib.asynccontextmanager
    async def serving(self, path: Path | None) -> AsyncIterator[None]:
        """The Workload API at a path while the block runs; without one nothing is served. Raises Mistake."""
        if path is None:
            yield
            return
        limits = self.settings.limits
        api = WorkloadApi(
            self.workloads,
            self.processes,
            self.clock,
            requests_max=limits.workload_requests,
            look_every_seconds=self.look_every_seconds,
        )
        bounds = SocketLimits(
            connections_max=limits.workload_connections,
            connections_of_account_max=limits.workload_connections_per_account,
            idle_seconds=limits.workload_idle_seconds,
        )
        async with workload_socket(api, path, self.settings.workload.socket_mode, bounds):
            yield


def workload_parts(
    settings: Settings,
    keys: Keys,
    store: Store,
    signer: TokenSigner,
    tasks: Tasks,
    rules: Rules,
    clock: Callable[[], datetime],
    new_id: Callable[[str], str],
) -> WorkloadParts:
    """Of a node under construction. ``rules``: agents are those of the configuration in force."""
    authority = Authority(
        store,
        Sealer(keys.derived("x509 authorities")),
        clock,
        trust_domain=settings.trust_domain,
        life=settings.workload.authority_ttl,
        jwt_bundle=lambda: signer.bundle(int(settings.svid_ttl.total_seconds())),
    )
    workloads = Workloads(
        store,
        authority,
        signer,
        tasks,
        clock,
        new_id,
        trust_domain=settings.trust_domain,
        svid_ttl=settings.svid_ttl,
        agents=lambda: {agent.name: (agent.spiffe_id, agent.attest) for agent in rules.configuration.agents.values()},
        issues_per_minute=settings.limits.workload_issues_per_minute,
    )
    return WorkloadParts(authority=authority, workloads=workloads, processes=Processes(), settings=settings, clock=clock)
