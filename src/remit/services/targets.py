"""The targets as they are configured now, each with one driver that is opened at first use and anew when its settings change."""

from __future__ import annotations

import functools
from datetime import timedelta
from typing import TYPE_CHECKING

from remit.drivers.targets.base import MARK_PREFIX

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from remit.drivers.targets.base import Target, TargetKind, TargetSettings
    from remit.services.target_secrets import TargetSecrets

_LEASE_PREFIX = "lease_"


class Targets:
    """Drivers by the name of their target."""

    def __init__(
        self,
        configured: Callable[[], Mapping[str, TargetSettings]],
        kinds: Mapping[str, TargetKind],
        secrets: TargetSecrets,
        tag: str,
    ) -> None:
        """``tag``: five letters that tell this installation's marks from others' on the same target."""
        self._configured, self._kinds, self._secrets = configured, kinds, secrets
        self.prefix = MARK_PREFIX + tag
        self._open: dict[str, tuple[TargetSettings, Target]] = {}

    def names(self) -> tuple[str, ...]:
        """Configured targets."""
        return tuple(self._configured())

    def connections(self, name: str) -> int:
        """How many conversations with a target there may be."""
        settings = self._configured().get(name)
        return settings.connections if settings else 1

    def lists(self, name: str) -> bool:
        """Whether a target can say what it gave out."""
        settings = self._configured().get(name)
        return settings is not None and self._kinds[settings.kind].lists

    def lost_until(self, name: str, expires_at: datetime) -> datetime | None:
        """When a lease is surely gone whose credential is lost; ``None``: at once, for the target needs its mark alone."""
        settings = self._configured().get(name)
        if settings is None or self._kinds[settings.kind].by_mark:
            return None
        return expires_at + timedelta(seconds=self._kinds[settings.kind].late_seconds)

    def get(self, name: str) -> Target | None:
        """The driver of a target; ``None`` where none is configured under that name."""
        settings = self._configured().get(name)
        if settings is None:
            return None
        known = self._open.get(name)
        if known is None or known[0] != settings:
            opened = self._kinds[settings.kind].open(settings, functools.partial(self._secrets.secret, settings))
            known = self._open[name] = (settings, opened)  # the old one ends with the work it is in; its connections with it
        return known[1]

    def stands(self, name: str) -> bool:
        """Whether what is leased there is a secret that outlives every lease."""
        settings = self._configured().get(name)
        return settings is not None and self._kinds[settings.kind].stands

    def rotate_after(self, name: str) -> timedelta | None:
        """How old a credential on a target may become while it is in use; ``None``: as old as its task."""
        settings = self._configured().get(name)
        return settings.rotate_after if settings else None

    def mark(self, lease: str) -> str:
        """The name that a lease carries on its target."""
        return self.prefix + lease.removeprefix(_LEASE_PREFIX)

    def lease(self, mark: str) -> str:
        """The lease of a mark of ours."""
        return _LEASE_PREFIX + mark.removeprefix(self.prefix)

    async def close(self) -> None:
        """Let go of all."""
        opened, self._open = self._open, {}
        for _, target in opened.values():
            await target.close()
