"""Assembles one running node: the only place that chooses concrete classes and turns settings into values."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import secrets
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from remit.doors.api.tasks import TaskDoor
from remit.drivers.keys import load_or_make_keys
from remit.drivers.sealing import Sealer
from remit.drivers.sentence_model import SentenceModel, find_model
from remit.drivers.spans import SPANS_OFF
from remit.drivers.upstream_http import http_session
from remit.drivers.value_sealing import ValueSealer
from remit.drivers.webhooks import WebhookClient
from remit.errors import Outage
from remit.logic.checkpoint import Checkpoint, Verifier, sign_checkpoint
from remit.logic.leases import lost
from remit.node_events import EventParts, event_parts
from remit.node_gateway import GatewayParts, gateway_parts
from remit.node_leases import LeaseParts, lease_parts
from remit.node_ledger import LedgerParts, ledger_parts
from remit.node_signals import SignalParts, signal_parts
from remit.node_telemetry import make_spans
from remit.node_tokens import TokenParts, token_parts
from remit.node_workload import WorkloadParts, workload_parts
from remit.services.approvals import Approvals
from remit.services.behaviour import Behaviour
from remit.services.configuration import load_agents, load_configuration
from remit.services.declared import Declared
from remit.services.delegation import Delegations
from remit.services.feed import Feed
from remit.services.history import History
from remit.services.identities import Identities
from remit.services.invitations import Invitations
from remit.services.manifests import Manifests
from remit.services.mediation import Mediation
from remit.services.notices import Notices
from remit.services.objective import Objectives
from remit.services.opening import Dispatcher
from remit.services.pins import Pins
from remit.services.presenting import Presenting
from remit.services.proofs import Proofs, make_proofs
from remit.services.questions import Questions
from remit.services.replays import Replays
from remit.services.rules import Rules, make_rulebook
from remit.services.sightings import Sightings
from remit.services.standing import Standing
from remit.services.subtrees import Subtrees
from remit.services.tasks import Tasks
from remit.services.tickets import Tickets
from remit.store.postgres import PostgresStore
from remit.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from pathlib import Path

    import aiohttp

    from remit.drivers.base import StdioServer
    from remit.drivers.key_ring import KeyRing
    from remit.drivers.keys import Keys
    from remit.drivers.spans import Spans
    from remit.logic.rulebook import Rulebook
    from remit.services.ledger import Ledger
    from remit.services.tokens import Tokens
    from remit.settings import Agent, Configuration, Limits, Settings
    from remit.store.database import CheckpointSigner, Store

_LOG = logging.getLogger("remit")
_IDLE_CHECK_SECONDS = 30.0
_RELOAD_CHECK_SECONDS = 1.0
_DROP_SECONDS = 60.0
_OVERDUE_FIRST = 100
_KEYS_CHECK_SECONDS = 2.0


def utc_now() -> datetime:
    """The clock of a real node."""
    return datetime.now(UTC)


def new_id(prefix: str) -> str:
    """An unguessable id: 120 bits."""
    return f"{prefix}_{secrets.token_hex(15)}"


@dataclass(slots=True, kw_only=True)
class Node:
    """A running node: its services, and the ASGI application that serves its doors."""

    folder: Path
    configuration: Configuration
    keys: Keys = field(repr=False)
    store: Store
    sealer: ValueSealer
    ledger: Ledger
    transparency: LedgerParts
    signer: KeyRing
    tasks: Tasks
    tokens: Tokens
    identities: Identities
    proofs: Proofs
    replays: Replays
    workload: WorkloadParts
    rules: Rules
    dispatcher: Dispatcher
    mediation: Mediation
    manifests: Manifests
    questions: Questions
    approvals: Approvals
    invitations: Invitations
    notices: Notices
    gateway: GatewayParts
    door: TaskDoor
    feed: Feed
    signals: SignalParts
    events: EventParts
    leases: LeaseParts
    subtrees: Subtrees
    client: aiohttp.ClientSession
    token_parts: TokenParts
    spans: Spans
    clock: Callable[[], datetime]
    _background: list[asyncio.Task[None]] = field(default_factory=list)

    async def end_task(self, task_id: str, *, told: bool = False) -> None:
        """Let go of everything that hangs on an ended task. ``told`` by the ledger: somebody else may be at its leases, nobody waits."""
        await self.tasks.settle()
        self.questions.forget(task_id)
        self.gateway.gate.close_endpoints(task_id)
        self.leases.revocations.begin(task_id, claim=told)
        await self.gateway.legacy.end_task(task_id)
        await self.gateway.links.end_task(task_id)
        await self.gateway.egress.calls.end_task(task_id)
        if not told:
            await self.leases.end_task(task_id)

    async def end_below(self) -> None:
        """Let go of what hangs on tasks below ended and suspended ones: it opens nothing any more. A node that serves does it as well."""
        with contextlib.suppress(Outage):
            await self.subtrees.follow()
            await self.leases.revocations.catch_up(self.leases.wait_seconds)

    async def narrow_below(self, task_id: str) -> None:
        """Let go of credentials of a narrowed task, and of those below, that may do more than is granted now. As ``end_below``."""
        with contextlib.suppress(Outage):
            await self.subtrees.narrowed(task_id)
            await self.leases.revocations.catch_up(self.leases.wait_seconds)

    async def task_changed(self, task_id: str) -> None:
        """The ledger says that a task has ended, was suspended or narrowed, or has lost a credential: elsewhere perhaps, where that is
        seen to.
        """
        self.leases.revocations.begin(task_id, claim=True)
        with contextlib.suppress(Outage):
            await self.subtrees.narrowed(task_id)
            await self.gateway.links.end_leased(task_id, lost(await self.tasks.view(task_id)))

    async def prepare(self, rulebook: Rulebook | None) -> None:
        """Learn who is stopped; with a rulebook, record that it decides from here on. Raises Outage, Refusal (an older bundle)."""
        await self.tasks.standing.load()
        if rulebook is not None:
            await self.rules.activate(self.configuration, rulebook)
            await self.tasks.expire_due(_OVERDUE_FIRST)  # the sweep goes on with the others: a start does not wait for a night's tasks

    def history(self) -> History:
        """The recorded decisions, to be decided again."""
        return History(self.store, self.ledger.verifier, self.sealer)

    async def close(self) -> None:
        """Stop, in the reverse order of the beginning."""
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await self.notices.close()
        await self.signals.close()
        await self.events.close()
        await self.transparency.close()
        await self.gateway.links.close()
        await self.gateway.egress.calls.close()
        await self.leases.close()
        await self.tasks.settle()
        await self.client.close()
        await self.store.close()
        await self.spans.close()

    def start(self) -> None:
        """Begin what runs beside the calls."""
        working = (
            self.feed.follow(),
            self.feed.sweep(),
            self.subtrees.sweep(),
            self._end_idle(),
            self._reload(),
            self.notices.run(),
            self._drop_questions(),
            self._look_at_keys(),
        )
        for work in (*working, *self.leases.work(), *self.transparency.work()):
            self._background.append(asyncio.create_task(work))
        self._background += [asyncio.create_task(work) for work in (*self.signals.work(), *self.events.work())]

    async def _end_idle(self) -> None:
        while True:
            await asyncio.sleep(_IDLE_CHECK_SECONDS)
            await self.gateway.legacy.end_idle()

    async def _look_at_keys(self) -> None:
        """Take up keys that were replaced, and replace those that are too old."""
        while True:
            try:
                await self.token_parts.rotation.look()
            except Exception as error:
                _LOG.error("the keys that sign tokens cannot be looked at: %s", error)
            await asyncio.sleep(_KEYS_CHECK_SECONDS)

    async def _drop_questions(self) -> None:
        """Delete what was kept of questions that are over, of proofs that expired, and of requests that nobody came for."""
        while True:
            with contextlib.suppress(Outage):  # tried again a minute later
                await self.questions.sweep()
                await self.replays.sweep()
                await self.token_parts.pushed.sweep()
            await asyncio.sleep(_DROP_SECONDS)

    async def _reload(self) -> None:
        """Reload policies and task types when their files change; a bad set leaves the running one in force."""
        bundle = self.configuration.settings.bundle
        seen: tuple[tuple[str, int, int], ...] = ()  # so the first look also finds what changed since the folder was read
        while True:
            await asyncio.sleep(_RELOAD_CHECK_SECONDS)
            now = await asyncio.to_thread(_stamps, self.folder, bundle)  # 10,000 task types are as many files
            if now == seen:
                continue
            seen = now
            try:
                if await self.rules.reload(lambda: load_rules(self.folder)):
                    _LOG.info("policies and task types were reloaded")
            except Exception as error:
                _LOG.error("the changed configuration is not used; the running one stays:\n%s", error)


def load_rules(folder: Path) -> tuple[Configuration, Rulebook]:
    """Configuration and rulebook of a folder. Raises Mistakes."""
    configuration = load_configuration(folder)
    return configuration, make_rulebook(configuration, Pins(folder).tools())


@contextlib.asynccontextmanager
async def open_node(
    folder: Path,
    *,
    deciding: bool = False,
    scratch: Path | None = None,
    stand_ins: Mapping[str, StdioServer] | None = None,
    clock: Callable[[], datetime] = utc_now,
) -> AsyncIterator[Node]:
    """A node on a working folder; ``deciding``: it will decide calls, so what it decides by is recorded first. ``scratch``: a folder for
    its store and keys in place of the real ones, to rehearse in; ``stand_ins``: servers in place of the real ones, and no targets.

    Raises Mistake, Outage.
    """
    configuration, rulebook = load_rules(folder)
    if scratch is not None:
        unseen = replace(configuration.settings.ledger, witnesses=())
        elsewhere = replace(configuration.settings, storage=scratch / "remit.db", storage_url="", keys=scratch / "keys", key_encryption="")
        apart = replace(elsewhere, ledger=unseen)
        configuration = replace(configuration, settings=apart)
    if stand_ins is not None:
        configuration = replace(configuration, servers=stand_ins, targets={})
    settings, limits = configuration.settings, configuration.settings.limits
    objectives = _objectives(settings)
    keys = load_or_make_keys(settings.keys, settings.key_encryption, settings.trust_domain)
    origin = f"{settings.trust_domain}/ledger"

    def sign(size: int, root: bytes) -> str:
        return sign_checkpoint(Checkpoint(origin, size, root), keys.ledger)

    spans = make_spans(settings.telemetry, node=new_id("node")) if deciding and scratch is None else SPANS_OFF
    store, client = _store(settings, sign), http_session()
    transparency = ledger_parts(store, Verifier.of(origin, keys.ledger), settings.ledger)
    values_sealer, sealer = ValueSealer(keys.derived("values of calls")), Sealer(keys.derived("questions"))
    tasks = Tasks(store, clock, new_id, limits.tasks_in_memory, Standing(store, clock), spans)
    rules = Rules(store, clock, configuration, rulebook)
    behaviour = Behaviour(store)
    questions = Questions(store, sealer, clock)
    approvals = Approvals(store, tasks, lambda: rules.rulebook, questions, clock)
    invitations = Invitations(approvals, sealer, clock, base=settings.issuer, consent=lambda: rules.rulebook.consent)
    notices = Notices(store, approvals, invitations, WebhookClient(client), clock, queue_max=limits.write_queue)
    questions.on_question = notices.asked
    leases = lease_parts(
        store=store, tasks=tasks, keys=keys, clock=clock, configured=lambda: rules.configuration.targets, limits=limits, spans=spans
    )
    mediation = Mediation(
        tasks,
        _sightings(store, keys.derived("sightings"), limits),
        behaviour,
        lambda: rules.rulebook,
        new_id,
        approval_ttl=settings.approval_ttl,
        approvals_max=limits.questions_per_task,
        records_max=limits.records_per_task,
        sealer=values_sealer if settings.ledger.keep_values else None,
        questions=questions,
        tripwires=leases.tripwires,
        objectives=objectives,
        spans=spans,
    )
    replays = Replays(store, clock, new_id)
    parts = token_parts(configuration, keys, store, tasks, clock, new_id, replays)
    signer, tokens = parts.signer, parts.tokens
    manifests = Manifests(tasks, store, lambda: rules.rulebook, drifts_max=limits.drifts_per_task)
    gateway = gateway_parts(
        settings=settings,
        mediation=mediation,
        tasks=tasks,
        rules=rules,
        approvals=approvals,
        invitations=invitations,
        manifests=manifests,
        leases=leases,
        tokens=parts,
        sealer=sealer,
        client=client,
        clock=clock,
        spans=spans,
    )
    ending: list[Node] = []

    async def on_end(task_id: str, *, told: bool = False) -> None:
        await behaviour.ended(task_id)
        await ending[0].end_task(task_id, told=told)

    proofs = make_proofs(
        configuration.trust,
        replays,
        audience=settings.issuer,
        document_bytes_max=limits.trust_document_bytes,
        fetch_seconds_max=limits.trust_fetch_seconds,
    )
    workload = workload_parts(settings, keys, store, signer, tasks, rules, clock, new_id)
    identities = Identities(
        tasks.standing,
        store,
        signer,
        clock,
        new_id,
        trust_domain=settings.trust_domain,
        audience=settings.issuer,
        svid_ttl=settings.svid_ttl,
        agents=Declared(lambda: rules.configuration.agents),
        proofs=proofs,
        authorities=workload.authority.certificates,
    )
    dispatcher = Dispatcher(tasks, rules, clock)
    tickets = Tickets(
        mediation,
        tasks,
        store,
        clock,
        lambda: rules.rulebook,
        lambda: rules.configuration.python_servers,
        permit_ttl=timedelta(seconds=limits.permit_seconds),
        kept_max=limits.permits_in_memory,
        manifests=manifests,
    )
    node = Node(
        folder=folder,
        configuration=configuration,
        keys=keys,
        store=store,
        sealer=values_sealer,
        ledger=transparency.ledger,
        transparency=transparency,
        signer=signer,
        tasks=tasks,
        tokens=tokens,
        identities=identities,
        proofs=proofs,
        replays=replays,
        workload=workload,
        rules=rules,
        dispatcher=dispatcher,
        mediation=mediation,
        manifests=manifests,
        questions=questions,
        approvals=approvals,
        invitations=invitations,
        notices=notices,
        gateway=gateway,
        door=TaskDoor(
            identities=identities,
            tokens=tokens,
            bearers=parts.bearers,
            tasks=tasks,
            dispatcher=dispatcher,
            presenting=Presenting(
                Delegations(tasks, mediation.sightings, rules, store, clock, new_id, records_max=limits.records_per_task),
                identities,
                tokens,
                parts.bearers,
            ),
            tickets=tickets,
            manifests=manifests,
            issuer=settings.issuer,
            mcp_servers=lambda: rules.configuration.servers,
            egresses=lambda: rules.configuration.egresses,
            end_task=on_end,
        ),
        signals=signal_parts(configuration, keys, store, tasks, clock, new_id),
        events=event_parts(settings.events if scratch is None else (), store, clock, log=origin, node=new_id("node")),
        feed=Feed(store, tasks, functools.partial(on_end, told=True), lambda task: ending[0].task_changed(task), gateway.streams.look),  # noqa: PLW0108  # made below
        leases=leases,
        subtrees=Subtrees(store, tasks),
        client=client,
        token_parts=parts,
        spans=spans,
        clock=clock,
    )
    ending.append(node)
    try:
        await node.prepare(rulebook if deciding else None)
        yield node
    finally:
        await node.close()


@contextlib.asynccontextmanager
async def open_standing(folder: Path) -> AsyncIterator[tuple[Mapping[str, Agent], Store, Standing]]:
    """Just enough of a node to stop agents, whatever else of the folder does not hold together. Raises Mistake, Outage."""
    settings, agents = load_agents(folder)
    keys = load_or_make_keys(settings.keys, settings.key_encryption, settings.trust_domain)
    origin = f"{settings.trust_domain}/ledger"
    store = _store(settings, lambda size, root: sign_checkpoint(Checkpoint(origin, size, root), keys.ledger))
    try:
        yield agents, store, Standing(store, utc_now)
    finally:
        await store.close()


def _store(settings: Settings, sign: CheckpointSigner) -> Store:
    if settings.storage_url:
        return PostgresStore(settings.storage_url, sign, settings.limits.write_queue)
    return SqliteStore(settings.storage, sign, settings.limits.write_queue)


def _sightings(store: Store, key: bytes, limits: Limits) -> Sightings:
    return Sightings(
        store,
        key,
        values_max=limits.values_per_task,
        values_in_memory_max=limits.values_in_memory,
        tasks_max=limits.tasks_in_memory,
    )


def _objectives(settings: Settings) -> Objectives | None:
    """Raises Mistake where a model is configured and not there."""
    rules = settings.behaviour
    if not rules.model:
        return None
    model = SentenceModel(find_model(rules.model))
    return Objectives(model, similar_min=rules.similar_percent / 100, wait_seconds=settings.limits.objective_seconds)


def _stamps(folder: Path, bundle: Path | None) -> tuple[tuple[str, int, int], ...]:
    """Names, times and sizes of the files that make a configuration."""
    files = [
        folder / "remit.toml",
        folder / "tools.lock.json",
        *folder.glob("tasks/*.toml"),
        *folder.glob("policies/*.cedar"),
        *folder.glob("access/*/*"),
        *folder.glob("console/*.cedar"),
        *((bundle,) if bundle else ()),
    ]
    found = []
    for path in sorted(files):
        with contextlib.suppress(OSError):
            state = path.stat()
            found.append((path.name, state.st_mtime_ns, state.st_size))
    return tuple(found)
