"""Every record is an event that OCSF's own schema admits, and carries nothing that stays in the ledger."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from functools import cache
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema

from remit.logic.ocsf import UNREADABLE, VERSION, entry_event
from remit.logic.ocsf_classes import BY_KIND
from remit.logic.records import encode
from remit.model.call_record import CallDecided
from remit.model.lease_record import LeaseLine
from remit.model.record import KINDS, Record, TaskOpened
from tests.support import NOW

SECRET = "s3cret-input-value"
CLASSES = {
    0: "base_event",
    2004: "detection_finding",
    3001: "account_change",
    3002: "authentication",
    3003: "authorize_session",
    3004: "entity_management",
    3005: "user_access",
    6003: "api_activity",
}
TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=30)
WHEN = st.datetimes(datetime(2020, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))
st.register_type_strategy(str, TEXT)
st.register_type_strategy(datetime, WHEN)
st.register_type_strategy(int, st.integers(-1, 2**31))


@cache
def validator(class_uid: int, profiles: tuple[str, ...]) -> jsonschema.Draft202012Validator:
    schemas = OcsfJsonSchemaEmbedded(get_ocsf_schema(version=VERSION))
    return jsonschema.Draft202012Validator(schemas.get_class_schema(class_name=CLASSES[class_uid], profiles=list(profiles)))


def check(event: dict[str, Any]) -> None:
    profiles = tuple(event["metadata"].get("profiles", ()))
    wrong = [f"{list(one.path)}: {one.message[:200]}" for one in validator(event["class_uid"], profiles).iter_errors(event)]
    assert wrong == []


def bodies(kind: str) -> st.SearchStrategy:
    body = KINDS[kind]
    if body is TaskOpened:
        inputs = st.dictionaries(st.just("key"), st.just(SECRET))
        leases = st.lists(st.builds(LeaseLine, scope=st.just(SECRET)), max_size=2)
        return st.builds(TaskOpened, inputs=inputs, objective=st.just(SECRET), leases=leases)
    if body is CallDecided:
        return st.builds(
            CallDecided, outcome=st.sampled_from(["allow", "ask", "deny", "new"]), effect=st.sampled_from(["read", "write", ""])
        )
    return st.from_type(body)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=8, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large], deadline=None)
@given(data=st.data(), task=st.none() | TEXT.filter(bool), index=st.integers(0, 2**40))
def test_every_record_is_a_valid_event(kind, data, task, index):
    record = Record(at=NOW, body=data.draw(bodies(kind)), task=task, seq=1 if task else 0)
    entry = encode(record)
    told, event = entry_event(entry, index=index, log="remit.test/ledger", product_version="1")
    assert told == kind
    check(json.loads(json.dumps(event)))
    assert event["metadata"]["sequence"] == index
    assert event["metadata"]["uid"] == f"remit.test/ledger#{index}"
    assert event["time"] == 1_000 * int(NOW.timestamp())
    assert SECRET not in json.dumps(event)


def test_every_kind_has_a_class_of_its_own():
    """A new kind of record is told as a base event until somebody says what it is: logic/ocsf_classes.py."""
    assert set(BY_KIND) == set(KINDS)


def test_what_cannot_be_read_is_told_all_the_same():
    kind, event = entry_event(b'{"v": 2}', index=7, log="x", product_version="1")
    assert kind == UNREADABLE
    check(event)
    assert event["metadata"]["sequence"] == 7


@pytest.mark.parametrize(
    ("outcome", "approval", "said"),
    [
        ("allow", "", (1, 1, 1, 1)),
        ("allow", "apr_1", (1, 8, 1, 1)),
        ("ask", "apr_1", (3, 23, 2, 2)),
        ("deny", "", (2, 2, 2, 2)),
    ],
)
def test_what_a_decision_says(outcome, approval, said):
    body = CallDecided(
        decision="d_1",
        agent="spiffe://remit.test/agent/payer",
        outcome=outcome,
        tool_kind="tool",
        server="bank",
        name="pay",
        arguments_digest="sha-256:x",
        effect="irreversible",
        policies=["small"],
        policy_set="sha-256:p",
        approval=approval,
    )
    _, event = entry_event(encode(Record(at=NOW, body=body, task="task_1", seq=2)), index=1, log="x", product_version="1")
    check(event)
    assert (event["action_id"], event["disposition_id"], event["status_id"], event["severity_id"]) == said
    assert (event["class_uid"], event["activity_name"], event["type_uid"]) == (6003, "Execute Tool", 600399)
    assert event["api"]["operation"] == "tools/call bank/pay"
    assert event["api"]["request"]["uid"] == "d_1"
    assert event["policy"]["uid"] == "small"
    assert event["metadata"]["correlation_uid"] == "task_1"
