"""Every setting and every limit, with its unit. Values only: reading them is ``services/configuration.py``'s."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from remit.logic.consent import Consent
from remit.model.access import AccessRules
from remit.model.attestation import ProcessRule
from remit.model.console import ConsoleRules
from remit.model.event import EventSink
from remit.model.manifest import ManifestSource
from remit.model.signal import SignalRules
from remit.model.token import TokenRules
from remit.model.trust import TrustRules

if TYPE_CHECKING:
    from collections.abc import Mapping

    from remit.drivers.base import HttpServer, PythonServer, StdioServer
    from remit.drivers.targets.base import TargetSettings
    from remit.logic.bundle import Bundle
    from remit.logic.checkpoint import Verifier
    from remit.logic.cosignature import Witness
    from remit.logic.rulebook import Catalog
    from remit.model.egress import Egress
    from remit.model.front_channel import SignIn
    from remit.model.identity import SpiffeId
    from remit.model.labels import DataClasses
    from remit.model.task_type import TaskType


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds, each a key of ``[limits]``. Reaching one is a refusal, never a wait without end."""

    body_bytes: int = 4_194_304
    json_depth: int = 64
    result_bytes: int = 16_777_216
    sessions: int = 1_000
    session_idle_seconds: int = 1_800
    conversations: int = 1_000
    calls_under_way: int = 64
    call_seconds: int = 300
    server_start_seconds: int = 60
    joint_server_seconds: int = 10
    tasks_in_memory: int = 10_000
    values_per_task: int = 50_000
    values_in_memory: int = 2_000_000
    records_per_task: int = 20_000
    questions_per_task: int = 100
    drifts_per_task: int = 100
    write_queue: int = 10_000
    permit_seconds: int = 60
    evaluations_per_request: int = 1_000
    search_page: int = 1_000
    permits_in_memory: int = 10_000
    trust_document_bytes: int = 524_288
    trust_fetch_seconds: int = 5
    signal_bytes: int = 65_536
    signals_kept: int = 100_000
    leases_per_task: int = 20
    leases_per_agent: int = 200
    leases_per_target: int = 1_000
    revocation_wait_seconds: int = 5
    workload_connections: int = 128
    workload_connections_per_account: int = 32
    workload_requests: int = 16
    workload_idle_seconds: int = 300
    workload_issues_per_minute: int = 600
    objective_seconds: int = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """A declared agent. ``tasks``: task types it may be given; empty means none. ``keys``: public, as JSON Web Keys.

    ``default_task``: the type of the task that a token is for whose request names none ("" : it must).
    """

    name: str
    spiffe_id: SpiffeId
    tasks: tuple[str, ...] = ()
    description: str = ""
    keys: tuple[dict[str, Any], ...] = ()
    default_task: str = ""
    manifest: ManifestSource = field(default_factory=ManifestSource)
    attest: ProcessRule = field(default_factory=ProcessRule)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadSettings:
    """``[spiffe]``. ``socket``: of the Workload API (``None``: off); ``authority_ttl``: life of one X.509 authority."""

    socket: Path | None = None
    socket_mode: int = 0o600
    authority_ttl: timedelta = timedelta(hours=24)


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerSettings:
    """``[ledger]``. ``readers``: digests of the secrets by which entries are read; ``witness_every``: how often witnesses are asked."""

    keep_values: bool = False
    witnesses: tuple[Witness, ...] = ()
    witness_every: timedelta = timedelta(seconds=10)
    readers: Mapping[str, bytes] = field(default_factory=dict)


METRICS_FOR = ("loopback", "anyone", "off")


@dataclass(frozen=True, slots=True, kw_only=True)
class BehaviourSettings:
    """``[behaviour]``. ``model``: folder of the model that measures objectives, ``package`` or "" (none). ``similar_percent``: cosine in
    hundredths from which a tool is near its objective: measured in docs/configuration.md.
    """

    model: str = ""
    similar_percent: int = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class TelemetrySettings:
    """``[telemetry]``. ``endpoint``: where traces are told, OTLP over HTTP ("" : nowhere). ``headers``: sent with it; may hold a secret."""

    endpoint: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    service: str = "remit"
    sample_percent: int = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What ``remit.toml`` says."""

    folder: Path
    host: str = "127.0.0.1"
    port: int = 7411
    allowed_hosts: tuple[str, ...] = ("127.0.0.1", "localhost", "[::1]")
    allowed_origins: tuple[str, ...] = ()
    metrics: str = "loopback"  # who may look at /metrics: METRICS_FOR
    issuer: str = "http://127.0.0.1:7411"
    tls: tuple[Path, Path] | None = None  # certificate and key; plain HTTP without
    storage: Path = Path("state/remit.db")
    storage_url: str = field(default="", repr=False)  # PostgreSQL; "" : the file above. May hold a password
    keys: Path = Path("state/keys")
    key_encryption: str = ""  # where the key-encryption key of ``keys`` is (drivers/key_encryption.py); "": they lie in clear
    trust_domain: str = "remit.local"
    svid_ttl: timedelta = timedelta(minutes=5)
    token_ttl: timedelta = timedelta(minutes=10)
    approval_ttl: timedelta = timedelta(minutes=15)
    ledger: LedgerSettings = field(default_factory=LedgerSettings)
    bundle: Path | None = None  # policies come in this signed file instead of policies/*.cedar
    bundle_keys: tuple[Verifier, ...] = ()
    workload: WorkloadSettings = field(default_factory=WorkloadSettings)
    behaviour: BehaviourSettings = field(default_factory=BehaviourSettings)
    telemetry: TelemetrySettings = field(default_factory=TelemetrySettings)
    events: tuple[EventSink, ...] = ()
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """A whole working folder, checked, as one value."""

    settings: Settings
    classes: DataClasses
    agents: Mapping[str, Agent]
    servers: Mapping[str, StdioServer | HttpServer]
    python_servers: Mapping[str, PythonServer]
    catalog: Catalog
    task_types: Mapping[str, TaskType]
    policies: Mapping[str, str]
    digest: str
    access: AccessRules = field(default_factory=AccessRules)
    bundle: Bundle | None = None
    consent: Consent = field(default_factory=Consent)
    tokens: TokenRules = field(default_factory=TokenRules)
    sign_in: SignIn | None = None
    trust: TrustRules = field(default_factory=TrustRules)
    signals: SignalRules = field(default_factory=SignalRules)
    targets: Mapping[str, TargetSettings] = field(default_factory=dict)
    console: ConsoleRules = field(default_factory=ConsoleRules)
    egresses: Mapping[str, Egress] = field(default_factory=dict)
