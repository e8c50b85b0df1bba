"""A node with its numbers told at ``/metrics``: for one that serves. Apart, because what counts them takes a while to load."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from remit.application import application
from remit.doors.metrics import PATH, MetricsDoor
from remit.services.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.types import ASGIApp, Receive, Scope, Send

    from remit.node import Node


@contextlib.asynccontextmanager
async def measured(node: Node) -> AsyncIterator[ASGIApp]:
    """The application of a started node and ``/metrics``, counted while the block runs."""
    rules, settings = node.rules, node.configuration.settings
    metrics = Metrics(
        node.store,
        node.tasks,
        node.feed,
        node.clock,
        targets=lambda: rules.configuration.targets,
        servers=lambda: {*rules.configuration.servers, *rules.configuration.python_servers, *rules.configuration.egresses},
        queues={"store": node.store.waiting, "webhooks": node.notices.waiting},
    )
    node.store.on_append = metrics.appended
    app = application(node)
    door = MetricsDoor(metrics=metrics, who=settings.metrics, hosts=frozenset(settings.allowed_hosts))

    async def both(scope: Scope, receive: Receive, send: Send) -> None:
        is_metrics = scope["type"] == "http" and scope["path"] == PATH
        await (door if is_metrics else app)(scope, receive, send)

    following = asyncio.create_task(metrics.follow())
    try:
        yield both
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
