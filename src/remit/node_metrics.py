"""A node with its numbers told at ``/metrics``: for one that serves. Apart, because what counts them takes a while to load."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from remit.application import application
from remit.doors.metrics import PATH, MetricsDoor
from remit.services.metrics import Metrics, Told
from remit.services.verification import Verification

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.types import ASGIApp, Receive, Scope, Send

    from remit.drivers.spans import Spans
    from remit.node import Node
    from remit.services.events import Events


@contextlib.asynccontextmanager
async def measured(node: Node) -> AsyncIterator[ASGIApp]:
    """The application of a started node and ``/metrics``, counted while the block runs."""
    rules, settings = node.rules, node.configuration.settings
    verification = Verification(node.store, node.ledger.verifier)
    metrics = Metrics(
        node.store,
        node.tasks,
        node.feed,
        node.clock,
        targets=lambda: rules.configuration.targets,
        servers=lambda: {*rules.configuration.servers, *rules.configuration.python_servers, *rules.configuration.egresses},
        queues={"store": node.store.waiting, "webhooks": node.notices.waiting},
        more=[*ledger_numbers(verification), *span_numbers(node.spans), *event_numbers(node.events.events)],
    )
    node.store.on_append = metrics.appended
    app = application(node)
    door = MetricsDoor(metrics=metrics, who=settings.metrics, hosts=frozenset(settings.allowed_hosts))

    async def both(scope: Scope, receive: Receive, send: Send) -> None:
        is_metrics = scope["type"] == "http" and scope["path"] == PATH
        await (door if is_metrics else app)(scope, receive, send)

    working = [asyncio.create_task(metrics.follow()), asyncio.create_task(verification.run())]
    try:
        yield both
    finally:
        for work in working:
            work.cancel()
        await asyncio.gather(*working, return_exceptions=True)


def ledger_numbers(verification: Verification) -> list[Told]:
    """What is known of the ledger's truth."""
    return [
        Told(name="remit_ledger_entries", help="Entries under the latest signed head", read=lambda: {(): verification.size}),
        Told(
            name="remit_ledger_verified_entries",
            help="Entries that were read again and are what the head signs",
            read=lambda: {(): verification.verified},
        ),
        Told(name="remit_ledger_broken", help="1: the ledger is not what was signed", read=lambda: {(): int(bool(verification.broken))}),
    ]


def event_numbers(events: Events) -> list[Told]:
    """How far the sinks of events are behind, by name."""

    def waiting() -> dict[tuple[str, ...], float]:
        return {(name,): state.waiting for name, state in events.states.items()}

    def failing() -> dict[tuple[str, ...], float]:
        return {(name,): events.failing_seconds(name) for name in events.states}

    return [
        Told(name="remit_events_waiting", help="Entries that a sink has not taken yet", labels=("sink",), read=waiting),
        Told(name="remit_events_failing_seconds", help="For how long a sink has failed", labels=("sink",), read=failing),
    ]


def span_numbers(spans: Spans) -> list[Told]:
    """What became of traces; nothing where they are off."""

    def read() -> dict[tuple[str, ...], float]:
        return {(state,): number for state, number in spans.told().items()}

    return [Told(name="remit_spans", help="Spans, by what became of them", labels=("state",), read=read)]
