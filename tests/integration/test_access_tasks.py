"""Calls of tasks, asked about by enforcement points and by the agents themselves, over the decision API."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from remit.errors import Mistake
from remit.logic.arguments import digest_json
from remit.model.task import TaskState
from remit.node import load_rules
from tests.integration.access_node import Served, served, write_access

if TYPE_CHECKING:
    from collections.abc import Iterator

SECRET, OTHER = "a secret of some length, for the gateway", "another secret, of the todo backend"
TOML = """
[server]
issuer = "http://127.0.0.1:7411"
[limits]
records_per_task = 60
[agents.payer]
tasks = ["pay", "watch"]
[agents.stranger]
tasks = ["pay"]
[servers.bank]
url = "http://127.0.0.1:9/mcp"
data_class = "internal"
trust = "trusted"
sends = "nowhere"
[tools."bank/read"]
effect = "read"
trust = "untrusted"
[tools."bank/read".fields."/id"]
trust = "trusted"
[tools."bank/send"]
effect = "irreversible"
[tools."bank/never"]
effect = "write"
[access.callers.gateway]
secret = "${GATEWAY_SECRET}"
tasks = true
[access.callers.backend]
secret = "${BACKEND_SECRET}"
applications = ["todo"]
[access.callers.stranger]
agent = "stranger"
applications = ["todo"]
[access.applications.todo]
subjects = ["user", "agent"]
resources = ["todo"]
actions = ["read"]
explain = true
[access.applications.other]
subjects = ["user"]
resources = ["other"]
actions = ["read"]
"""
CEDAR = """
@id("reads") permit (principal, action in Action::"read", resource);
@id("approved") permit (principal, action == Action::"bank/send", resource) when { context has approval };
@id("small") permit (principal, action == Action::"bank/send", resource) when { context.arguments.amount < 10 };
"""
TASK = """
objective = "Pay {who}"
data_ceiling = "internal"
deadline = "5m"
[inputs.who]
type = "string"
[[grant]]
tool = "bank/read"
[[grant]]
tool = "bank/send"
arguments.properties.to.const = "{who}"
[[grant]]
tool = "bank/never"
[[grant]]
resource = "bank/note://one"
"""
TEXT, WHOLE = {"type": "string"}, {"type": "integer"}
TOOLS = [
    {"name": "read", "inputSchema": {"type": "object", "properties": {"box": TEXT}}},
    {"name": "send", "inputSchema": {"type": "object", "properties": {"to": TEXT, "amount": WHOLE}, "required": ["to", "amount"]}},
    {"name": "never", "inputSchema": {"type": "object"}},
    {"name": "hidden", "inputSchema": {"type": "object"}},
]
PAYER, STRANGER = "spiffe://remit.local/agent/payer", "spiffe://remit.local/agent/stranger"
CALL = {"name": "tools/call"}


@pytest.fixture(scope="module")
def pdp(tmp_path_factory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("tasks")
    anyone = {"policies": '@id("any") permit (principal, action, resource);'}
    write_access(folder, TOML, todo=anyone, other=anyone)
    (folder / "policies" / "main.cedar").write_text(CEDAR)
    (folder / "tasks" / "pay.toml").write_text(TASK)
    (folder / "tasks" / "watch.toml").write_text("watched = true\n" + TASK)
    (folder / "tools.lock.json").write_text(json.dumps({"version": 1, "servers": {"bank": TOOLS}}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GATEWAY_SECRET", SECRET)
        patch.setenv("BACKEND_SECRET", OTHER)
        with served(folder) as running:
            yield running


@pytest.fixture
def task(pdp) -> str:
    opened = pdp.run(
        pdp.node.dispatcher.open(agent="payer", task_type="pay", inputs={"who": "bob"}, on_behalf_of="alice", opened_by="test")
    )
    return opened.id


def about(
    task: str, tool: str = "bank/read", subject: str = PAYER, arguments: dict[str, Any] | None = None, **context: Any
) -> dict[str, Any]:
    return {
        "subject": {"type": "agent", "id": subject},
        "action": {"name": "tools/call", "properties": {"arguments": arguments or {}}},
        "resource": {"type": "tool", "id": tool},
        "context": {"task": task, **context},
    }


def when(text: str) -> datetime:
    return datetime.fromisoformat(text)


def test_a_permit_says_what_it_is_good_for(pdp, task):
    answer = pdp.ask("evaluation", about(task, arguments={"box": "in"}), SECRET)
    assert answer["decision"] is True
    context = answer["context"]
    decided = pdp.records("CallDecided")[-1]
    assert (context["decision_id"], context["evaluation_id"]) == (decided.decision, decided.decision)
    assert context["parameter_digest"] == decided.arguments_digest == digest_json({"box": "in"})
    assert (context["reason"], context["policies"], context["single_use"]) == ("permitted", ["reads"], True)
    assert datetime.now(UTC) < when(context["permit_expires_at"]) < datetime.now(UTC) + timedelta(minutes=2)
    assert context["task"] == {"id": task, "state": "active"}
    assert context["labels"] == {"data_class": "internal", "untrusted": True}, "the result is not shown to us, so none of it is cleared"
    assert "denial_reason" not in context
    assert set(task_of(pdp, task).in_flight) == {decided.decision}, "the permit is used up by having been given"


def task_of(pdp: Served, task: str) -> Any:
    return pdp.run(pdp.node.tasks.view(task))


@pytest.mark.parametrize(
    ("tool", "arguments", "code", "denial"),
    [
        ("bank/hidden", {}, "not_granted", "out_of_authority"),
        ("bank/nothing", {}, "tool_unknown", "out_of_authority"),
        ("read", {}, "tool_unknown", "out_of_authority"),
        ("bank/read", {"box": 5}, "arguments_invalid", "parameter_violation"),
        ("bank/send", {"to": "mallory", "amount": 5}, "arguments_outside_grant", "parameter_violation"),
        ("bank/never", {}, "no_policy_permits", "resource_policy"),
    ],
)
def test_a_denial_says_why_in_our_words_and_in_the_closed_set(pdp, task, tool, arguments, code, denial):
    answer = pdp.ask("evaluation", about(task, tool, arguments=arguments), SECRET)
    assert answer["decision"] is False
    assert (answer["context"]["reason"], answer["context"]["denial_reason"]) == (code, denial)
    assert answer["context"]["message"].startswith("Refused")
    assert "permit_expires_at" not in answer["context"]
    assert task_of(pdp, task).calls == 0


def test_a_question_is_a_requestable_denial_and_the_approval_is_found_when_asked_again(pdp, task):
    question = about(task, "bank/send", arguments={"to": "bob", "amount": 100})
    answer = pdp.ask("evaluation", question, SECRET)
    context = answer["context"]
    assert (answer["decision"], context["reason"], context["denial_reason"]) == (False, "approval_required", "action_approval_required")
    assert (context["approval"]["state"], context["next_action"]) == ("pending", "retry")
    assert when(context["access_request"]["expires_at"]) == when(context["approval"]["expires_at"]) > datetime.now(UTC)
    assert context["access_request"]["display"]["description"] == "Pay bob"
    pdp.run(pdp.node.tasks.answer(context["approval"]["id"], granted=True, by="carol"))
    other = about(task, "bank/send", arguments={"to": "bob", "amount": 101}, approval=context["approval"])
    assert pdp.ask("evaluation", other, SECRET)["decision"] is False, "the approval is of one exact call, whatever the asker sends"
    again = pdp.ask("evaluation", {**question, "context": {**question["context"], "approval": context["approval"]}}, SECRET)
    assert (again["decision"], again["context"]["reason"]) == (True, "approved")
    assert pdp.ask("evaluation", question, SECRET)["decision"] is False, "once"


def test_the_words_of_other_profiles(pdp, task):
    base = about(task, "bank/send", arguments={"to": "bob", "amount": 5})
    digest = digest_json({"to": "bob", "amount": 5})
    bare = {**base, "action": CALL}
    for question in (
        {**bare, "context": {"mission": {"id": task}, "parameters": {"to": "bob", "amount": 5}, "parameter_digest": digest}},
        {**bare, "resource": {"type": "tool", "id": "bank/send", "properties": {"arguments": {"to": "bob", "amount": 5}}}},
        {**base, "resource": {"type": "tool", "id": "send", "properties": {"server": "bank"}}},
        {**base, "action": {**base["action"], "name": "call"}, "context": {"task": {"id": task}}},
        {**base, "subject": {"type": "identity", "id": "alice"}, "context": {"task": task, "agent": PAYER}},
        {**base, "subject": {"type": "user", "id": "alice"}, "context": {"task": task, "actor": {"client_id": "payer"}}},
    ):
        answer = pdp.ask("evaluation", question, SECRET)
        assert answer["decision"] is True, answer
        assert answer["context"]["parameter_digest"] == digest
    note = {"type": "resource", "id": "note://one", "properties": {"server": "bank"}}
    assert pdp.ask("evaluation", {**base, "action": {"name": "resources/read"}, "resource": note}, SECRET)["decision"] is True
    assert pdp.ask("evaluation", {**base, "action": {"name": "read"}, "resource": {"type": "resource", "id": "bank/note://one"}}, SECRET)[
        "decision"
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"context": {"task": 5}},
        {"context": {"task": "a", "mission": {"id": "b"}}},
        {"action": {"name": "call", "properties": {"arguments": [1]}}},
        {"parameters": {"box": "other"}},
        {"parameter_digest": "sha-256:AAAA"},
        {"resource": {"type": "tool", "id": "read", "properties": {"server": 5}}},
    ],
)
def test_what_contradicts_itself_is_a_mistake(pdp, task, change):
    question = about(task, arguments={"box": "in"})
    if not {"context", "action", "resource"} & change.keys():
        change = {"context": {"task": task, **change}}
    assert pdp.http("POST", "/access/v1/evaluation", {**question, **change}, SECRET)[0] == 400
    assert task_of(pdp, task).calls == 0


@pytest.mark.parametrize(
    ("subject", "context", "code"),
    [
        (STRANGER, {}, "wrong_agent"),
        ("stranger", {}, "wrong_agent"),
        ("nobody at all", {}, "wrong_agent"),
        ("alice", {}, "wrong_agent"),
        ("alice", {"agent": "stranger"}, "wrong_agent"),
        (PAYER, {"task": "task_of_nobody"}, "no_task"),
        (PAYER, {"task": None}, "no_task"),
    ],
)
def test_whose_task_it_is_not_gets_nothing(pdp, task, subject, context, code):
    answer = pdp.ask("evaluation", {**about(task, subject=subject), "context": {"task": task, **context}}, SECRET)
    assert (answer["decision"], answer["context"]["reason"]) == (False, code)
    assert task_of(pdp, task).calls == 0


def test_an_unknown_action_is_no_call(pdp, task):
    answer = pdp.ask("evaluation", {**about(task), "action": {"name": "tools/list"}}, SECRET)
    assert (answer["decision"], answer["context"]["reason"]) == (False, "action_unknown")


def test_an_agent_asks_for_itself_and_for_nobody_else(pdp, task):
    svid = pdp.run(pdp.node.identities.issue_svid("payer", attested="test"))
    token, _ = pdp.run(pdp.node.tokens.issue(task, "test"))
    assert pdp.ask("evaluation", about(task), svid)["decision"] is True
    assert pdp.ask("evaluation", {**about(task), "context": {}}, token)["decision"] is True, "the token names the task"
    assert pdp.ask("evaluation", about(task, subject="alice"), token)["decision"] is True, "the person it works for, by its agent"
    assert pdp.ask("evaluation", about(task, subject=STRANGER), token)["context"]["reason"] == "wrong_agent"
    other = pdp.run(pdp.node.dispatcher.open(agent="payer", task_type="pay", inputs={"who": "eve"}, on_behalf_of="alice", opened_by="test"))
    assert pdp.ask("evaluation", about(other.id), token)["context"]["reason"] == "no_task", "a token is of one task"
    theirs = pdp.run(pdp.node.identities.issue_svid("stranger", attested="test"))
    for claimed in (STRANGER, PAYER):
        assert pdp.ask("evaluation", about(task, subject=claimed), theirs)["context"]["reason"] == "no_task", "to others it does not exist"
    assert pdp.ask("search/resource", {**about(task), "resource": {"type": "tool"}}, theirs) == {"results": []}
    assert pdp.http("POST", "/access/v1/evaluation", about(task), OTHER)[0] == 403
    pdp.run(pdp.node.tasks.end(task, TaskState.COMPLETED, by="test"))
    assert pdp.http("POST", "/access/v1/evaluation", about(task), token)[0] == 401
    assert pdp.ask("evaluation", about(task), svid)["context"]["denial_reason"] == "mission_inactive"


def test_who_asks_must_say_who_it_is(pdp, task):
    answers = set()
    for credential in ("", "x", SECRET[:-1], SECRET + "x", "e30.e30.e30", "a" * 10_000):
        status, headers, body = pdp.http("POST", "/access/v1/evaluation", about(task), credential)
        assert (status, headers["www-authenticate"]) == (401, "Bearer")
        answers.add(body) if credential else None
    assert len(answers) == 1
    assert pdp.http("POST", "/access/v1/evaluation", b"[" * 100_000, "x")[0] == 401, "a stranger's body is not parsed"
    assert pdp.http("GET", "/.well-known/authzen-configuration")[0] == 404, "no https, no metadata"


def test_a_caller_asks_about_its_own_applications_only(pdp):
    todo = {"subject": {"type": "user", "id": "ann"}, "action": {"name": "read"}, "resource": {"type": "todo", "id": "1"}}
    answer = pdp.ask("evaluation", todo, OTHER)
    assert (answer["decision"], answer["context"]["policies"], answer["context"]["single_use"]) == (True, ["any"], False)
    other = {**todo, "resource": {"type": "other", "id": "1"}}
    assert pdp.http("POST", "/access/v1/evaluation", other, OTHER)[0] == 403
    assert pdp.http("POST", "/access/v1/evaluation", todo, SECRET)[0] == 403
    assert pdp.http("POST", "/access/v1/search/action", other, OTHER)[0] == 403
    many = pdp.ask("evaluations", {**todo, "evaluations": [{}, {"resource": other["resource"]}]}, OTHER)["evaluations"]
    assert [one["decision"] for one in many] == [True, False]
    assert many[1]["context"]["error"]["status"] == 403
    unknown = pdp.ask("evaluation", {**todo, "resource": {"type": "ship", "id": "1"}}, OTHER)
    assert (unknown["decision"], unknown["context"]["reason"]) == (False, "type_unknown")
    theirs = pdp.run(pdp.node.identities.issue_svid("stranger", attested="test"))
    assert pdp.ask("evaluation", todo, theirs)["decision"] is True


@pytest.mark.parametrize(
    ("kind", "name"), [("user", PAYER), ("agent", PAYER), ("agent", "payer"), ("agent", "spiffe://remit.local/unknown/one")]
)
def test_an_agent_without_a_task_gets_nothing(pdp, kind, name):
    question = {"subject": {"type": kind, "id": name}, "action": {"name": "read"}, "resource": {"type": "todo", "id": "1"}}
    answer = pdp.ask("evaluation", question, OTHER)
    assert (answer["decision"], answer["context"]["denial_reason"]) == (False, "mission_inactive")
    assert pdp.records("AccessDecided")[-1].reasons[0].code == "no_task"


def test_many_calls_in_one_request_are_each_decided(pdp, task):
    items = [{}, {"resource": {"type": "tool", "id": "bank/hidden"}}, {"resource": {"type": "tool", "id": "bank/read"}}]
    answers = pdp.ask("evaluations", {**about(task), "evaluations": items}, SECRET)["evaluations"]
    assert [one["decision"] for one in answers] == [True, False, True]
    assert len({one["context"]["decision_id"] for one in answers}) == 3
    stopped = {**about(task), "options": {"evaluations_semantic": "deny_on_first_deny"}, "evaluations": items}
    assert len(pdp.ask("evaluations", stopped, SECRET)["evaluations"]) == 2
    assert (task_of(pdp, task).calls, task_of(pdp, task).denied) == (3, 2)


def test_a_task_that_can_hold_no_further_record_gets_nothing(pdp, task):
    items = [{"resource": {"type": "tool", "id": "bank/hidden"}}] * 60 + [{}]
    answers = pdp.ask("evaluations", {**about(task), "evaluations": items}, SECRET)["evaluations"]
    assert not any(one["decision"] for one in answers)
    last = answers[-1]["context"]
    assert (last["reason"], last["denial_reason"]) == ("budget_exhausted", "quota_exceeded")
    assert pdp.records("AccessDecided")[-1].decision == last["decision_id"], "it is recorded all the same"
    assert (task_of(pdp, task).seq, task_of(pdp, task).calls) == (60, 0)


def test_searches_look_and_use_nothing_up(pdp, task):
    who = {"type": "agent", "id": PAYER}
    context = {"task": task}

    def found(kind: str, **question: Any) -> list[str]:
        return [one.get("id") or one["name"] for one in pdp.ask(f"search/{kind}", {"context": context, **question}, SECRET)["results"]]

    tool, tools = {"type": "tool", "id": "bank/read"}, {"type": "tool"}
    assert found("resource", subject=who, action=CALL, resource=tools) == ["bank/read", "bank/send"]
    question = {"subject": who, "action": CALL, "resource": tools, "context": context, "page": {"limit": 1}}
    first = pdp.ask("search/resource", question, SECRET)
    question["page"]["token"] = first["page"]["next_token"]
    assert first["results"] + pdp.ask("search/resource", question, SECRET)["results"] == [
        {"type": "tool", "id": name} for name in ("bank/read", "bank/send")
    ]
    large = {**CALL, "properties": {"arguments": {"to": "bob", "amount": 100}}}
    assert found("resource", subject=who, action=large, resource=tools) == [], "it would be asked"
    assert found("resource", subject=who, action={"name": "read"}, resource={"type": "resource"}) == ["bank/note://one"]
    assert found("resource", subject=who, action={"name": "fly"}, resource=tools) == []
    assert found("resource", subject={**who, "id": STRANGER}, action=CALL, resource=tools) == []
    assert found("action", subject=who, resource=tool) == ["tools/call"]
    assert found("action", subject=who, resource={**tool, "id": "bank/never"}) == []
    assert found("subject", subject={"type": "agent"}, action=CALL, resource=tool) == [PAYER]
    assert found("subject", subject={"type": "user"}, action=CALL, resource=tool) == []
    assert found("subject", subject={"type": "agent"}, action=CALL, resource={**tool, "id": "bank/hidden"}) == []
    assert task_of(pdp, task).seq == 2, "a search is no decision of the task"
    last = pdp.records("AccessSearched")[-1]
    assert (last.caller, last.sought, last.task, last.found) == ("gateway", "subject", task, 0)
    pdp.run(pdp.node.tasks.move(task, TaskState.SUSPENDED, by="test"))
    assert found("resource", subject=who, action=CALL, resource=tools) == []


def test_a_search_catches_up_with_what_a_decision_needs(pdp):
    opened = pdp.node.dispatcher.open(agent="payer", task_type="watch", inputs={"who": "bob"}, on_behalf_of="", opened_by="test")
    question = {**about(pdp.run(opened).id), "resource": {"type": "tool"}, "action": CALL}
    assert len(pdp.ask("search/resource", question, SECRET)["results"]) == 2, "nothing of this task type was decided here before"


def test_a_policy_changes_while_it_runs_and_a_broken_one_does_not(pdp):
    question = {"subject": {"type": "user", "id": "ann"}, "action": {"name": "read"}, "resource": {"type": "todo", "id": "1"}}
    policies = pdp.node.folder / "access" / "todo" / "main.cedar"
    text = policies.read_text()

    def reload() -> Any:
        return pdp.run(pdp.node.rules.reload(lambda: load_rules(pdp.node.folder)))

    policies.write_text("permit (principal action);")
    with pytest.raises(Mistake, match=r"access/todo/main\.cedar:1"):
        reload()
    assert pdp.ask("evaluation", question, OTHER)["decision"] is True
    policies.write_text('@id("none") forbid (principal, action, resource);')
    assert reload()
    answer = pdp.ask("evaluation", question, OTHER)
    assert (answer["decision"], answer["context"]["reason"], answer["context"]["policies"]) == (False, "policy_forbids", ["none"])
    policies.write_text(text)
    assert reload()
