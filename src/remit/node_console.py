"""A node with the console at ``/``: for one that serves people. Apart, because what makes its pages takes a while to load."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette

from remit.doors.console.approvals import ApprovalsDoor
from remit.doors.console.frame import Frame, no_such_page
from remit.doors.console.live import LiveDoor
from remit.doors.console.now import NowDoor
from remit.doors.console.passkeys import PasskeysDoor
from remit.doors.console.sign_in import SignInDoor
from remit.doors.console.task import TaskDoor
from remit.drivers.fetching import Fetcher
from remit.drivers.provider import Provider
from remit.drivers.sealing import Sealer
from remit.errors import Outage
from remit.logic.console import ConsolePolicy
from remit.node_console_records import record_pages
from remit.services.console_sessions import Sessions
from remit.services.console_sign_in import RETURN, ConsoleSignIn, sign_in_link
from remit.services.growth import Growth
from remit.services.overview import Overviews
from remit.services.passkeys import Passkeys, site_of
from remit.services.task_acts import TaskActs
from remit.services.task_story import TaskStories

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.routing import Route
    from starlette.types import ASGIApp, Receive, Scope, Send

    from remit.doors.console.frame import Page
    from remit.model.console import ConsoleRules
    from remit.node import Node

_SWEEP_SECONDS = 300.0


@contextlib.asynccontextmanager
async def consoled(node: Node, app: ASGIApp) -> AsyncIterator[ASGIApp]:
    """An application of a node and the console, whose sessions are swept while the block runs."""
    frame = console_frame(node)
    handlers: Any = {404: no_such_page, 405: no_such_page}
    console = Starlette(routes=[*open_routes(node, frame), *frame.routes(console_pages(node, frame))], exception_handlers=handlers)

    async def both(scope: Scope, receive: Receive, send: Send) -> None:
        is_console = scope["type"] == "http" and (scope["path"] == "/" or scope["path"].startswith("/console/"))
        await (console if is_console else app)(scope, receive, send)

    async def sign_out(persons: frozenset[str], by: str) -> None:
        for person in persons:
            await frame.sessions.end_all(person, by=by)

    node.signals.taking_back.on_persons = sign_out
    sweeping = asyncio.create_task(_sweep(frame.sessions))
    try:
        yield both
    finally:
        sweeping.cancel()
        await asyncio.gather(sweeping, return_exceptions=True)


def open_routes(node: Node, frame: Frame) -> list[Route]:
    """What needs no session: signing in, and files that are no secret."""
    return _signing(node, frame).routes()


def console_pages(node: Node, frame: Frame) -> list[Page]:
    """All pages that need a session."""
    tasks, rules = node.tasks, node.rules
    stories = TaskStories(node.store, tasks, node.ledger, lambda: rules.rulebook, node.clock)
    passkeys, site = console_passkeys(node), site_of(node.configuration.settings.issuer)
    return [
        *NowDoor(overviews=Overviews(node.store, tasks, node.approvals, lambda: rules.rulebook, node.clock)).pages(),
        *TaskDoor(stories=stories, acts=TaskActs(tasks, node.door.end_task, node.leases.end_task)).pages(),
        *ApprovalsDoor(approvals=node.approvals, passkeys=passkeys, stories=stories, clock=node.clock, site=site).pages(),
        *PasskeysDoor(passkeys=passkeys, site=site).pages(),
        *record_pages(node),
        *LiveDoor(growth=Growth(node.store), sessions=frame.sessions).pages(),
    ]


def console_frame(node: Node) -> Frame:
    """What every page goes through."""
    settings = node.configuration.settings
    hosts = frozenset(host.strip("[]").lower() for host in settings.allowed_hosts)
    sessions = Sessions(node.store, _sealer(node), node.clock, lambda: node.rules.configuration.console)
    policy = _Policy(node)
    return Frame(
        sessions=sessions,
        tasks=node.tasks,
        rules=lambda: node.rules.configuration.console,
        policy=policy.now,
        issuer=settings.issuer,
        hosts=hosts,
    )


def console_passkeys(node: Node) -> Passkeys:
    """The passkeys of people."""
    return Passkeys(node.store, _sealer(node), node.replays, node.clock)


def console_link(node: Node, account: str) -> str:
    """The path of a one-time link for an account of this machine."""
    return sign_in_link(_sealer(node), node.configuration.settings.issuer, account, node.clock())


class _Policy:
    """The console's policies in force, checked once each time they change."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._rules: ConsoleRules | None = None
        self._policy = ConsolePolicy({})

    def now(self) -> ConsolePolicy:
        rules = self._node.rules.configuration.console
        if rules is not self._rules:
            self._rules, self._policy = rules, ConsolePolicy(rules.policies)
        return self._policy


def _signing(node: Node, frame: Frame) -> SignInDoor:
    configuration = node.configuration
    settings, rule = configuration.settings, configuration.sign_in
    provider = None
    if rule is not None:
        fetcher = Fetcher(bytes_max=settings.limits.trust_document_bytes, seconds_max=settings.limits.trust_fetch_seconds)
        provider = Provider(rule, fetcher, time.monotonic, returns_to=settings.issuer + RETURN)
    signing = ConsoleSignIn(
        frame.sessions,
        _sealer(node),
        node.replays,
        node.store,
        node.clock,
        frame.rules,
        issuer=settings.issuer,
        sign_in=rule,
        provider=provider,
    )
    return SignInDoor(frame=frame, signing=signing)


def _sealer(node: Node) -> Sealer:
    return Sealer(node.keys.derived("console"))


async def _sweep(sessions: Sessions) -> None:
    while True:
        with contextlib.suppress(Outage):  # tried again some minutes later
            await sessions.sweep()
        await asyncio.sleep(_SWEEP_SECONDS)
