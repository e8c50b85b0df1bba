"""The example of docs/egress.md, as it stands there, holds together; so do its tables and what can be configured."""

from __future__ import annotations

import re
from pathlib import Path

from remit.logic.egress_sent import PASSED, RETURNED
from remit.services import egress_configuration
from remit.services.configuration import load_configuration
from remit.services.rules import make_rulebook
from remit.wire import _STATUS_OF_CODE

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "egress.md").read_text(encoding="utf-8")
BLOCK = "\n".join(line[4:] for line in PAGE.partition("    # remit.toml\n")[2].partition("\nAn operation is a tool")[0].splitlines())
REST = """
[targets.crm]
kind = "static"
secret = "${CRM_KEY}"
[agents.clerk]
tasks = ["look-after"]
"""
TASK = 'objective = "Look after {customer}"\ndata_ceiling = "internal"\ndeadline = "5m"\n[inputs.customer]\ntype = "integer"\n'


def test_the_example_holds_together(tmp_path, monkeypatch):
    monkeypatch.setenv("CRM_KEY", "x" * 16)
    toml, task = BLOCK.split("# tasks/look-after.toml\n")
    (tmp_path / "tasks").mkdir()
    (tmp_path / "policies").mkdir()
    (tmp_path / "remit.toml").write_text(toml + REST)
    (tmp_path / "tasks" / "look-after.toml").write_text(TASK + task)
    (tmp_path / "policies" / "main.cedar").write_text(
        'permit (principal, action == Action::"crm/pay", resource) when { context.arguments.body.amount.lessThan(decimal("5.0")) };'
    )
    configuration = load_configuration(tmp_path)
    assert set(make_rulebook(configuration, {}).pinned) == {"crm/get_customer", "crm/pay"}


def test_every_key_and_header_is_documented():
    source = Path(egress_configuration.__file__).read_text(encoding="utf-8")
    keys = set(re.findall(r'table\.(?:value|texts|table|tables)\("(\w+)"', source)) | {"networks", "ca_file", "path", "query"}
    assert keys >= {"request", "body", "form", "media_types", "stream", "required", "headers", "url"}
    assert sorted(key for key in keys - {"operations"} if f"`{key}" not in PAGE) == []
    assert sorted(name for name in PASSED if f"`{name}`" not in PAGE and not name.startswith("if-")) == []
    assert sorted(name for name in RETURNED if f"`{name}`" not in PAGE) == []


def test_every_answer_is_documented():
    codes = {code for _, code in _STATUS_OF_CODE if code.startswith("egress_")}
    assert sorted(code for code in codes if f"`{code}`" not in PAGE) == []
