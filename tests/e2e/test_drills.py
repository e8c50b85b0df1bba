"""Drills: they hold on a folder that is well kept, each says so where it does not hold, and nothing real hears of them."""

from __future__ import annotations

import base64
import json
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from remit.cli.drills.stage import Played, Stage
from remit.cli.drills.words import Said
from remit.cli.main import main
from remit.doors.gateway.gate import Gate
from remit.errors import Outage
from remit.logic.arguments import digest_bytes
from remit.logic.report_rules import RULES
from remit.model.call import Ending
from remit.model.drill import Incident
from remit.model.identity import Bearer
from remit.model.token import Credential
from remit.services.mediation import Mediation, Observed, Ticket
from remit.services.pins import Pins
from tests.e2e.drill_folder import CEDAR, PAY, change, json_key, write_drill_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_drill_folder(tmp_path / "guard")


def remit(*words: str) -> Result:
    return CliRunner().invoke(main, list(words), catch_exceptions=False)


def drilled(folder: Path, *words: str) -> tuple[int, dict[str, Any]]:
    done = remit("drill", "--json", "-C", str(folder), *words)
    return done.exit_code, json.loads(done.stdout)


def ledger(folder: Path) -> list[dict[str, Any]]:
    return json.loads(remit("ledger", "tail", "-n", "1000", "--json", "-C", str(folder)).stdout)


def test_all_of_them_hold_on_a_folder_that_is_well_kept_and_nothing_real_hears_of_it(folder):
    code, told = drilled(folder)
    steps = [step for one in told["drills"] for step in one["steps"]]
    assert [step for step in steps if step["outcome"] == "not_held"] == []
    assert (code, told["outcome"]) == (0, "held")
    assert [one["drill"] for one in told["drills"]] == [one.value for one in Incident]
    assert {one["outcome"] for one in told["drills"]} == {"held"}
    bears_on = {(one["drill"], step["control"]) for one in told["drills"] for step in one["steps"]}
    assert bears_on <= {(drill.value, rule.key) for rule in RULES for drill in rule.drills}
    assert all(step["mend"] == "" for step in steps if step["outcome"] == "held")
    not_tried = [step for step in steps if step["outcome"] == "not_tried"]
    assert {(step["tried"].split(",")[0], step["happened"]) for step in not_tried} == {
        ("the database's own password", "the store is a file: there is no password"),
        ("files of remit that others on this machine can read", "there is no store yet"),
    }
    assert not list(folder.glob("*.started"))  # no server was started

    entries = ledger(folder)
    assert [entry["kind"] for entry in entries] == ["drill.ran"] * len(Incident)  # no task, no decision, no policy in force
    for one, entry in zip(told["drills"], entries, strict=True):
        index = one.pop("entry")
        assert entry["index"] == index
        assert entry["body"]["drill"] == one["drill"]
        assert entry["body"]["held"] == sum(step["outcome"] == "held" for step in one["steps"]) > 0
        assert entry["body"]["result_digest"] == digest_bytes(json.dumps(one, separators=(",", ":"), ensure_ascii=False).encode())
    assert remit("ledger", "key", "-C", str(folder)).exit_code == 0

    report = json.loads(remit("report", "--framework", "owasp-agentic", "--json", "-C", str(folder)).stdout)
    states = {control["key"]: control["state"] for control in report["controls"]}
    assert states["exfiltration"] == states["drift"] == states["pinned-tools"] == states["bound-tokens"] == "drilled"
    assert states["decided"] == "configured"  # calls of a drill are no calls
    items = {item["id"]: item["state"] for item in report["items"]}
    assert items["ASI04:2026"] == "partly shown"
    assert "shown" not in items.values()


def unbound(folder: Path) -> None:
    change(folder, "remit.toml", 'bound = "dpop"', 'bound = "none"')


def given_a_secret(folder: Path) -> None:
    change(folder, "remit.toml", "[servers.bank]\n", '[servers.bank]\nenv = { KEY = "${DRILL_KEY}" }\n')


def secret_on_the_command_line(folder: Path) -> None:
    change(folder, "remit.toml", 'args = ["', 'args = ["${DRILL_KEY}", "')


def one_key_for_two(folder: Path) -> None:
    text = (folder / "remit.toml").read_text()
    (folder / "remit.toml").write_text(re.sub(r"keys = \[.*\]", f"keys = [{json_key()}]", text))


def permits_everything(folder: Path) -> None:
    change(folder, "policies/main.cedar", CEDAR, '@id("all") permit (principal, action, resource);\n')


def drift_is_only_recorded(folder: Path) -> None:
    change(folder, "tasks/pay.toml", "[manifest]", '[drift]\nsystem_prompt = "record"\n[manifest]')


def no_manifest_is_demanded(folder: Path) -> None:
    change(folder, "tasks/pay.toml", '[manifest]\nrequired = ["system_prompt"]\n', "")


WEAK: list[tuple[Incident, Callable[[Path], None], str]] = [
    (Incident.HIJACKED_KEY, unbound, "a copy of the task's token, shown from elsewhere at once"),
    (Incident.HIJACKED_KEY, given_a_secret, "a secret of the configuration that is exposed and goes on working"),
    (Incident.LEAKED_LOGS, secret_on_the_command_line, "command lines and addresses of servers"),
    (Incident.SHARED_DATABASE, one_key_for_two, "the declared keys of agents"),
    (Incident.TOOL_POISONING, permits_everything, "a stranger's value from a result"),
    (Incident.CONFUSED_DEPUTY, unbound, "the task's token, shown at the gateway by a server"),
    (Incident.SLOW_EXFILTRATION, permits_everything, "what the task has read, sent outside in pieces"),
    (Incident.PROMPT_CHANGE, drift_is_only_recorded, "a call under the same token, after the system prompt has changed"),
    (Incident.PROMPT_CHANGE, no_manifest_is_demanded, "a task whose agent does not say what its system prompt is"),
]


def test_each_drill_is_weakened_by_something():
    assert {incident for incident, _, _ in WEAK} == set(Incident)


@pytest.mark.parametrize(("incident", "weaken", "tried"), WEAK, ids=[f"{one}-{weaken.__name__}" for one, weaken, _ in WEAK])
def test_a_drill_says_what_does_not_hold(folder, monkeypatch, incident, weaken, tried):
    monkeypatch.setenv("DRILL_KEY", "a-secret-of-the-environment")
    weaken(folder)
    code, told = drilled(folder, incident.value)
    (one,) = told["drills"]
    failed = [step for step in one["steps"] if step["outcome"] == "not_held"]
    assert (code, told["outcome"], one["outcome"]) == (1, "not_held", "not_held")
    assert any(step["tried"].startswith(tried) and step["mend"] for step in failed), failed
    assert "a-secret-of-the-environment" not in json.dumps(told)


def test_hidden_characters_in_an_accepted_description(tmp_path):
    folder = write_drill_folder(tmp_path / "guard", read="Read mail.\u202e\U000e0049gnore")
    code, told = drilled(folder, "tool-poisoning", "--no-record")
    assert code == 1
    step = told["drills"][0]["steps"][0]
    assert (step["outcome"], step["happened"]) == ("not_held", "hidden characters in mail/read")
    assert told["drills"][0]["entry"] is None
    assert ledger(folder) == []


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everybody may enter, as none below pytest's is."""
    made = Path(tempfile.mkdtemp(prefix="remit-test-"))
    made.chmod(0o755)
    yield write_drill_folder(made / "guard")
    shutil.rmtree(made)


def test_a_store_that_others_can_read(open_folder):
    assert remit("ledger", "key", "-C", str(open_folder)).exit_code == 0
    for path in (open_folder, open_folder / "state"):
        path.chmod(0o755)
    (open_folder / "state" / "remit.db").chmod(0o644)
    code, told = drilled(open_folder, "leaked-logs", "--no-record")
    step = next(step for step in told["drills"][0]["steps"] if step["tried"].startswith("files of remit"))
    assert (code, step["outcome"], step["happened"]) == (1, "not_held", "others can read remit.db")


def test_free_text_may_carry_what_strangers_wrote_and_selectors_may_not(folder):
    permits_everything(folder)
    change(folder, "remit.toml", '[tools."bank/pay"]\n', '[tools."bank/pay"]\nselectors = ["to"]\n')
    code, told = drilled(folder, "tool-poisoning", "--no-record")
    failed = [step["happened"] for step in told["drills"][0]["steps"] if step["outcome"] == "not_held"]
    assert (code, failed) == (1, ["bank/pay was allowed with it as to"])


def test_pieces_leave_in_addresses_too(folder):
    permits_everything(folder)
    narrow = 'tool = "bank/pay"\narguments.properties.to.const = "{bill}"\narguments.properties.note.pattern = "^https://"\n'
    change(folder, "tasks/pay.toml", 'tool = "bank/pay"\n', narrow)
    code, told = drilled(folder, "slow-exfiltration", "--no-record")
    (step,) = told["drills"][0]["steps"]
    assert (code, step["outcome"]) == (1, "not_held")
    assert "20 pieces" in step["happened"]


def test_a_value_that_is_logged_is_found(folder, monkeypatch):
    """No configuration makes remit log values, so a fault of ours is put in."""
    observe = Mediation.observe

    async def careless(self: Mediation, ticket: Ticket, ending: Ending, result: Any = None, *, late: bool = False) -> Observed:
        logging.getLogger("remit").debug("got %s", result)
        return await observe(self, ticket, ending, result, late=late)

    monkeypatch.setattr(Mediation, "observe", careless)
    code, told = drilled(folder, "leaked-logs", "--no-record")
    failed = [step["happened"] for step in told["drills"][0]["steps"] if step["outcome"] == "not_held"]
    assert (code, failed) == (1, ["a value of a call in the log"])


def test_a_token_that_opens_every_server_is_found(folder, monkeypatch):
    monkeypatch.setattr(Gate, "bearer", _whoever)
    code, told = drilled(folder, "confused-deputy", "--no-record")
    failed = [step["tried"] for step in told["drills"][0]["steps"] if step["outcome"] == "not_held"]
    assert code == 1
    assert "a token for one server, shown at another" in failed


async def _whoever(self: Gate, shown: Credential, server: str) -> tuple[Bearer, str]:
    """A gate that does not look at where a token is for, nor at what it is bound to."""
    del server
    claims = json.loads(base64.urlsafe_b64decode(shown.token.split(".")[1] + "=="))
    task = await self._tasks.view(claims["task"]["id"])
    return Bearer(agent=task.agent, task=task.id, proof="x"), ""


def test_a_failed_drill_contradicts_what_it_bears_on_until_it_holds(folder):
    unbound(folder)
    assert drilled(folder, "confused-deputy")[0] == 1
    assert state_of(folder, "bound-tokens") == "contradicted"
    assert state_of(folder, "refused-proofs") == "drilled"  # that step held
    change(folder, "remit.toml", 'bound = "none"', 'bound = "dpop"')
    assert drilled(folder, "confused-deputy")[0] == 0
    assert state_of(folder, "bound-tokens") == "drilled"


def test_a_drill_shows_nothing_of_a_configuration_that_was_weakened_after_it(folder):
    assert drilled(folder)[0] == 0
    assert (state_of(folder, "bound-tokens"), state_of(folder, "drift")) == ("drilled", "drilled")
    drift_is_only_recorded(folder)
    assert (state_of(folder, "bound-tokens"), state_of(folder, "drift")) == ("configured", "configured")
    assert drilled(folder, "prompt-change")[0] == 1
    assert state_of(folder, "drift") == "contradicted"


def state_of(folder: Path, key: str) -> str:
    report = json.loads(remit("report", "--framework", "owasp-agentic", "--json", "-C", str(folder)).stdout)
    return next(control["state"] for control in report["controls"] if control["key"] == key)


def test_where_nothing_can_be_tried_it_is_not_held(folder):
    change(folder, "tasks/pay.toml", '[[grant]]\ntool = "mail/read"\n', "")
    code, told = drilled(folder, "slow-exfiltration", "--no-record")
    assert (code, told["outcome"]) == (1, "not_tried")
    happened = "nothing that it reads is above the lowest class, or of strangers, as the catalog says of bank/pay"
    assert told["drills"][0]["steps"][0]["happened"] == happened


def test_a_look_beside_the_incident_does_not_make_a_drill_hold(folder):
    change(folder, "policies/main.cedar", CEDAR, "forbid (principal, action, resource);\n")
    code, told = drilled(folder, "tool-poisoning")
    (one,) = told["drills"]
    assert (code, one["outcome"]) == (1, "not_tried")
    assert [step["outcome"] for step in one["steps"] if step["aside"]] == ["held"]  # nothing hidden in the descriptions
    assert state_of(folder, "pinned-tools") == "configured"


def test_a_catalog_that_calls_a_change_a_read_is_doubted_where_its_server_says_otherwise(folder):
    change(folder, "remit.toml", 'effect = "irreversible"', 'effect = "read"')
    code, told = drilled(folder, "tool-poisoning", "--no-record")
    (step,) = [step for step in told["drills"][0]["steps"] if step["outcome"] == "not_tried"]
    assert "as the catalog says of bank/pay, mail/read" in step["happened"]
    Pins(folder).pin("bank", [{**PAY, "annotations": {"readOnlyHint": False}}])
    code, told = drilled(folder, "tool-poisoning", "--no-record")
    (step,) = [step for step in told["drills"][0]["steps"] if step["outcome"] == "not_held"]
    assert code == 1
    assert step["happened"] == "bank/pay was allowed with it as note, to"
    gaps = [gap["what"] for gap in json.loads(remit("report", "coverage", "--json", "-C", str(folder)).stdout)["coverage"]["gaps"]]
    assert "the catalog calls bank/pay a read, and its own server says that it changes something" in gaps


def test_an_empty_folder_holds_nothing(tmp_path):
    assert remit("init", "-C", str(tmp_path)).exit_code == 0
    code, told = drilled(tmp_path)
    assert (code, told["outcome"]) == (1, "not_tried")
    assert {one["outcome"] for one in told["drills"]} == {"not_tried"}
    assert all(one["steps"] for one in told["drills"])


def test_inputs_that_nothing_made_up_fits_can_be_given(folder):
    change(folder, "tasks/pay.toml", 'type = "string"', 'type = "string"\npattern = "^(x|B-[0-9]{4})$"\nminLength = 4')
    code, told = drilled(folder, "prompt-change", "--no-record")
    assert (code, told["outcome"]) == (1, "not_tried")
    assert "-i bill=" in told["drills"][0]["steps"][0]["happened"]
    code, told = drilled(folder, "prompt-change", "--no-record", "-i", "bill=B-2026")
    assert (code, told["outcome"]) == (0, "held")


def test_a_drill_that_breaks_off_has_not_held(folder, monkeypatch):
    async def away(self: Stage, played: Played, said: Said, result: object) -> None:
        raise Outage("the store is away")

    monkeypatch.setattr(Stage, "observed", away)
    code, told = drilled(folder, "slow-exfiltration", "--no-record")
    last = told["drills"][0]["steps"][-1]
    assert (code, last["tried"], last["happened"], last["outcome"]) == (1, "the drill itself", "the store is away", "not_held")


def test_task_types_can_be_named_and_one_that_does_not_open_says_why(folder):
    text = (folder / "tasks" / "pay.toml").read_text()
    (folder / "tasks" / "look.toml").write_text(text.replace('[[grant]]\ntool = "bank/pay"\n', ""))
    change(folder, "remit.toml", 'tasks = ["pay"]', 'tasks = ["look", "pay"]')
    _, told = drilled(folder, "prompt-change", "--no-record")
    assert {step["on"] for step in told["drills"][0]["steps"]} == {"look", "pay"}
    _, told = drilled(folder, "prompt-change", "--no-record", "--task", "look")
    assert {step["on"] for step in told["drills"][0]["steps"]} == {"look"}
    assert remit("drill", "--task", "nowhere", "-C", str(folder)).exit_code == 1
    (folder / "tasks" / "look.toml").write_text(
        text + 'resource = "mail/x://{bill}"\n'
        if False
        else text.replace("[[grant]]", '[[grant]]\narguments.properties.folder.within = "/in/{bill}"', 1)
    )
    code, told = drilled(folder, "prompt-change", "--no-record", "--task", "look", "-i", "bill=..")
    assert (code, told["outcome"]) == (1, "not_tried")
    assert "climbs out" in told["drills"][0]["steps"][0]["happened"]


def test_wrong_use_and_the_list(folder):
    listed = remit("drill", "--list", "--json")
    assert listed.exit_code == 0
    assert list(json.loads(listed.stdout)) == [one.value for one in Incident]
    assert remit("drill", "no-such-drill", "-C", str(folder)).exit_code == 2
    assert remit("drill", "prompt-change", "-i", "bill", "-C", str(folder)).exit_code == 2
    assert remit("drill", "-C", str(folder / "nowhere")).exit_code == 2
    (folder / "policies" / "main.cedar").write_text("permit (")
    assert remit("drill", "-C", str(folder)).exit_code == 2
    assert not os.path.exists(folder / "state")  # a broken folder is not begun upon
