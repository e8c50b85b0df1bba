"""The part of a node that holds leases: chooses the kinds of targets and wires their services."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from remit.drivers.log_scrubbing import scrub_log
from remit.drivers.sealing import Sealer
from remit.drivers.spans import SPANS_OFF
from remit.drivers.targets.kinds import TARGET_KINDS
from remit.errors import Outage
from remit.services.equipment import Equipment
from remit.services.lease_rotation import LeaseRotation
from remit.services.leases import Leases, Quotas, open_credential
from remit.services.reconciliation import Reconciliation
from remit.services.revocations import Revocations
from remit.services.secret_rotation import SecretRotation, accepts
from remit.services.target_secrets import TargetSecrets
from remit.services.targets import Targets
from remit.services.tripwire import Tripwires

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping
    from datetime import datetime

    from remit.drivers.keys import Keys
    from remit.drivers.spans import Spans
    from remit.drivers.targets.base import TargetSettings
    from remit.services.tasks import Tasks
    from remit.settings import Limits
    from remit.store.database import Store

_LEASE_LETTERS = 20  # 100 bits
_LEASE_BYTES = 13
_TAG_LETTERS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseParts:
    """What a node has of leases. ``wait_seconds``: how long a task's end waits for its revocations."""

    targets: Targets
    secrets: TargetSecrets
    secret_rotation: SecretRotation
    leases: Leases
    revocations: Revocations
    reconciliation: Reconciliation
    equipment: Equipment
    rotation: LeaseRotation
    tripwires: Tripwires
    end_scrubbing: Callable[[], None]
    wait_seconds: float

    def work(self) -> tuple[Coroutine[None, None, None], ...]:
        """What runs beside the calls."""
        return self.revocations.sweep(), self.reconciliation.run()

    async def end_task(self, task_id: str) -> None:
        """Revoke what is left of an ended task; returns when it is gone, or has waited long enough: the sweeper goes on."""
        with contextlib.suppress(Outage):
            await self.revocations.settled(task_id, self.wait_seconds)
            await self.tripwires.forget(task_id)

    async def close(self) -> None:
        """Stop, after mints under way have been settled as far as that goes in a moment."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.wait_seconds):
                await self.rotation.settle()
                await self.leases.settle()
        await self.leases.close()
        await self.revocations.close()
        await self.targets.close()
        self.end_scrubbing()


def lease_parts(
    *,
    store: Store,
    tasks: Tasks,
    keys: Keys,
    clock: Callable[[], datetime],
    configured: Callable[[], Mapping[str, TargetSettings]],
    limits: Limits,
    spans: Spans = SPANS_OFF,
) -> LeaseParts:
    """The services of leases. ``configured``: targets as they are now."""
    sealer = Sealer(keys.derived("leases"))
    held = TargetSecrets(store, Sealer(keys.derived("target secrets")), clock, functools.partial(accepts, TARGET_KINDS))
    targets = Targets(configured, TARGET_KINDS, held, _letters(keys.derived("lease marks"), _TAG_LETTERS))
    opened = functools.partial(open_credential, sealer)
    revocations = Revocations(tasks, store, targets, opened, clock)
    quotas = Quotas(task=limits.leases_per_task, agent=limits.leases_per_agent, target=limits.leases_per_target)
    tripwires = Tripwires(tasks, store, opened, clock, lambda task: revocations.begin(task, claim=True))
    leases = Leases(tasks, store, targets, revocations, sealer, new_lease, quotas, clock, tripwires.learn)
    return LeaseParts(
        targets=targets,
        secrets=held,
        secret_rotation=SecretRotation(configured, TARGET_KINDS, held),
        leases=leases,
        revocations=revocations,
        reconciliation=Reconciliation(store, targets, revocations, clock),
        equipment=Equipment(leases, spans),
        rotation=LeaseRotation(tasks, leases, targets, clock),
        tripwires=tripwires,
        end_scrubbing=scrub_log(tripwires.scrubbed),
        wait_seconds=limits.revocation_wait_seconds,
    )


def new_lease() -> str:
    """An unguessable id that fits into a mark (``drivers/targets/base.py``)."""
    return f"lease_{_letters(secrets.token_bytes(_LEASE_BYTES), _LEASE_LETTERS)}"


def _letters(data: bytes, length: int) -> str:
    return base64.b32encode(data).decode().lower()[:length]
