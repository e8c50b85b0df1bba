"""What an entry of the ledger is in the Open Cybersecurity Schema Framework, version 1.8.0. Pure: a record in, an event out.

Rules: every kind of record has its class here, and what has none is a *base event*, so nothing is left out and the sequence has no gap. An
event's uid is the entry's place in its log: whoever is told twice can tell. What a record says that OCSF has no place for stands under
``unmapped``; a task's inputs, its objective and what its grants compare with stay in the ledger. Severities are our convention: 1
what went as it should, 2 refused or asked, 3 somebody was stopped, 4 a finding. Left out: who takes events (``services/events.py``).
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import msgspec

from remit.errors import Broken
from remit.logic.ocsf_classes import BY_KIND, Shape
from remit.logic.records import decode
from remit.model.record import NAMES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from remit.model.record import Record

VERSION = "1.8.0"
UNREADABLE = "unreadable"
_TEXT_MAX, _LIST_MAX = 512, 50
_LEFT_OUT = frozenset({"inputs", "objective", "arguments", "scope", "tools", "origins", "leaves", "references", "manifest", "sums"})
_CLASS_NAMES = {
    0: "Base Event",
    2004: "Detection Finding",
    3001: "Account Change",
    3002: "Authentication",
    3003: "Authorize Session",
    3004: "Entity Management",
    3005: "User Access Management",
    6003: "API Activity",
}
_CATEGORIES = {0: "Uncategorized", 2: "Findings", 3: "Identity & Access Management", 6: "Application Activity"}
_SEVERITIES = {1: "Informational", 2: "Low", 3: "Medium", 4: "High", 5: "Critical"}


def entry_event(entry: bytes, *, index: int, log: str, product_version: str) -> tuple[str, dict[str, Any]]:
    """Kind and event of an entry's bytes; one that this version cannot read is an event all the same."""
    try:
        record = decode(entry)
    except Broken:
        return UNREADABLE, _event(Shape(activity_name="Unreadable", severity=2), UNREADABLE, 0, {}, entry, index, log, product_version)
    return NAMES[type(record.body)], record_event(record, entry, index=index, log=log, product_version=product_version)


def record_event(record: Record, entry: bytes, *, index: int, log: str, product_version: str) -> dict[str, Any]:
    """The event of a record. ``entry``: its bytes; ``index`` and ``log``: its place."""
    kind = NAMES[type(record.body)]
    maker = BY_KIND.get(kind)
    shape = maker(record) if maker is not None else Shape(activity_name=kind)
    told = {"kind": kind, "task": record.task or "", "task_sequence": record.seq, "record": _bare(msgspec.to_builtins(record.body))}
    made = _event(shape, kind, _milliseconds(record), told, entry, index, log, product_version)
    if record.task:
        made["metadata"]["correlation_uid"] = record.task
    return made


def event_uid(log: str, index: int) -> str:
    """The id of the event of an entry."""
    return f"{log}#{index}"


def _event(
    shape: Shape, kind: str, time: int, told: Mapping[str, Any], entry: bytes, index: int, log: str, product_version: str
) -> dict[str, Any]:
    category = shape.class_uid // 1_000
    metadata: dict[str, Any] = {
        "version": VERSION,
        "uid": event_uid(log, index),
        "product": {"name": "remit", "vendor_name": "remit", "version": product_version},
        "log_name": "ledger",
        "log_provider": log,
        "sequence": index,
        "event_code": kind,
    }
    if shape.profiles:
        metadata["profiles"] = list(shape.profiles)
    status = {True: (1, "Success"), False: (2, "Failure"), None: (0, "Unknown")}[shape.good]
    made: dict[str, Any] = {
        "metadata": metadata,
        "category_uid": category,
        "category_name": _CATEGORIES[category],
        "class_uid": shape.class_uid,
        "class_name": _CLASS_NAMES[shape.class_uid],
        "activity_id": shape.activity_id,
        "activity_name": shape.activity_name,
        "type_uid": shape.class_uid * 100 + shape.activity_id,
        "severity_id": shape.severity,
        "severity": _SEVERITIES[shape.severity],
        "time": time,
        "status_id": status[0],
        "status": status[1],
        "raw_data_hash": {"algorithm": "SHA-256", "algorithm_id": 3, "value": hashlib.sha256(entry).hexdigest()},
        **_cut(dict(shape.members)),
    }
    if told:
        made["unmapped"] = {"remit": dict(told)}
    return made


def _milliseconds(record: Record) -> int:
    return round(record.at.timestamp() * 1_000)


def _bare(value: Any) -> Any:
    """A record's body without what stays in the ledger, and bounded."""
    if isinstance(value, dict):
        return {key: _bare(one) for key, one in list(value.items())[:_LIST_MAX] if key not in _LEFT_OUT}
    return [_bare(one) for one in value[:_LIST_MAX]] if isinstance(value, list) else _cut(value)


def _cut(value: Any) -> Any:
    if isinstance(value, str):
        return value[:_TEXT_MAX]
    if isinstance(value, dict):
        return {key: _cut(one) for key, one in value.items()}
    return [_cut(one) for one in value[:_LIST_MAX]] if isinstance(value, list) else value
