"""Events for others' security monitoring: where they go, and one of them on its way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class EventSink:
    """One of ``[[events]]``; one of ``file`` (a path), ``webhook``, ``syslog`` is set.

    ``syslog``: ``tls://host:port``, ``tcp://host:port`` or ``unix:///path``; ``ca_file``: who vouches for it ("" : the system's
    authorities). ``secret``: signs what a webhook is sent (b"" : nothing does). ``private``: it may lie in a private network.
    ``beginning``: it is told the whole ledger, not only what comes.
    """

    name: str
    file: str = ""
    webhook: str = ""
    syslog: str = ""
    secret: bytes = field(default=b"", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    ca_file: str = ""
    private: bool = False
    beginning: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class OutgoingEvent:
    """``uid``: the same whenever it is told again. ``kind``: of the record. ``severity_id``: OCSF's. ``body``: JSON without line ends."""

    uid: str
    kind: str
    severity_id: int
    at: datetime
    body: bytes
