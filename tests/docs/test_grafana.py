"""The dashboard and the alert rules ask for metrics that are served, by labels that they have."""

from __future__ import annotations

import json
import re

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from remit.node import open_node
from remit.node_metrics import measured
from remit.services.scaffold import write_folder
from tests.docs.test_docs import ROOT, read

pytestmark = pytest.mark.anyio
_WORDS = frozenset({"max", "sum", "by", "rate", "increase", "histogram_quantile"})
_TARGETS = {"job", "instance"}  # given by Prometheus itself


@pytest.fixture
def anyio_backend():
    return "asyncio"


async def served(tmp_path) -> dict[str, set[str]]:
    """What a node that serves tells: name of each sample → names of its labels."""
    write_folder(tmp_path, None)
    with (tmp_path / "remit.toml").open("a", encoding="utf-8") as file:
        file.write('[targets.orders]\nkind = "static"\n[[events]]\nname = "siem"\nfile = "events.jsonl"\n')
    async with open_node(tmp_path, deciding=True) as node, measured(node) as app:
        assert app is not None
        text = (await node_text(app)).decode()
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        found.setdefault(family.name, set())
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


async def node_text(app) -> bytes:
    """One look, by ASGI."""
    sent: list[dict] = []

    async def send(message) -> None:
        sent.append(message)

    async def receive() -> dict:
        return {"type": "http.request", "body": b""}

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/metrics",
        "query_string": b"",
        "headers": [(b"host", b"127.0.0.1")],
        "client": ("127.0.0.1", 1),
    }
    await app(scope, receive, send)
    assert sent[0]["status"] == 200
    return b"".join(message.get("body", b"") for message in sent)


def asked(expression: str) -> tuple[set[str], set[str]]:
    """Metrics and labels that an expression of PromQL names."""
    labels = set(re.findall(r"([a-z_]+)\s*(?:=~|!~|!=|=)", "".join(re.findall(r"\{([^}]*)\}", expression))))
    for group in re.findall(r"\bby\s*\(([^)]*)\)", expression):
        labels |= {label.strip() for label in group.split(",")}
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\bby\s*\([^)]*\)|\"[^\"]*\"", " ", expression)
    return {word for word in re.findall(r"[a-z_][a-z0-9_]*", bare) if word not in _WORDS}, labels


async def test_each_panel_and_each_alert_asks_for_what_is_served(tmp_path):
    there = await served(tmp_path)
    dashboard = json.loads(read("docs/grafana/remit.json"))
    rules = yaml.safe_load(read("docs/grafana/alerts.yml"))["groups"][0]["rules"]
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]] + [rule["expr"] for rule in rules]
    assert len(expressions) > 30
    unlabelled = {
        "remit_decisions_total": {"server", "outcome"},
        "remit_tasks_ended_total": {"state"},
        "remit_spans": {"state"},
    }  # no sample yet
    unlabelled |= {"remit_lease_revocation_seconds_bucket": {"target", "le"}}
    for expression in expressions:
        names, labels = asked(expression)
        assert names, expression
        for name in names:
            family = re.sub(r"_(?:total|bucket|sum|count)$", "", name)
            assert name in there or (name in unlabelled and family in there), (name, expression)
            known = there.get(name, set()) | unlabelled.get(name, set())
            assert labels - _TARGETS <= known, (name, labels, known, expression)
    assert [rule["alert"] for rule in rules if not rule["annotations"].get("description")] == []
    assert {"RemitLeaseStuck", "RemitLedgerBroken", "RemitLedgerUnverified", "RemitRefusedStorm"} <= {rule["alert"] for rule in rules}


def test_the_dashboard_can_be_imported_anywhere():
    dashboard = json.loads(read("docs/grafana/remit.json"))
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    assert all(target["datasource"]["uid"] == "${datasource}" for panel in dashboard["panels"] for target in panel["targets"])
    assert "://" not in (ROOT / "docs/grafana/remit.json").read_text(encoding="utf-8")
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in dashboard["panels"]]
    assert len(set(places)) == len(places)


async def test_every_metric_is_documented(tmp_path):
    documented = read("docs/configuration.md")
    names = {re.sub(r"_(?:total|bucket|sum|count|created)$", "", name) for name in await served(tmp_path) if name.startswith("remit_")}
    assert [name for name in sorted(names) if f"`{name}" not in documented] == []
