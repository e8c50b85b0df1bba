"""A broken folder: the command names file, line, key and what is allowed, exits 2, shows no trace, starts nothing.

Most cases run the command line in this process, for speed; what concerns a process of its own runs as one.
"""

from __future__ import annotations

import contextlib
import json
import os
import time

import pytest
from click.testing import CliRunner, Result

from remit.cli.main import main
from remit.drivers.keys import load_or_make_keys
from remit.services.pins import Pins
from tests.e2e.conftest import TASK, Folder
from tests.e2e.inside import Inside
from tests.e2e.test_serve import CALL, answer, http, open_task, session, svid

TOML, PAY, CEDAR, LOCK = "remit.toml", "tasks/pay.toml", "policies/main.cedar", "tools.lock.json"
TEXT, NUMBER = {"type": "string"}, {"type": "integer"}
LISTED = [
    {"name": name, "inputSchema": {"type": "object", "properties": properties}}
    for name, properties in {
        "echo": {"text": TEXT},
        "slow": {"steps": NUMBER},
        "fail": {},
        "ask": {},
        "send_money": {"recipient": TEXT, "amount": NUMBER},
        "loose": {"any": {}, "both": {"anyOf": [TEXT, NUMBER]}, "maybe": {"anyOf": [NUMBER, {"type": "null"}]}, "list": {"items": TEXT}},
    }.items()
]


@pytest.fixture
def pinned(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> Inside:
    monkeypatch.setenv("BANK_SECRET", "hunter2")
    Pins(folder.path).pin("bank", LISTED)
    return Inside(folder.path, folder.port, folder.started)


def inside(folder: Folder, *words: str) -> Result:
    """The command in this process: its exit code and all it says. No exception may leave it."""
    done = CliRunner().invoke(main, folder.command(*words)[3:])
    assert done.exception is None or isinstance(done.exception, SystemExit), repr(done.exception)
    assert "Traceback" not in done.output
    assert "hunter2" not in done.output
    return done


def change(folder: Folder, name: str, old: str, new: str) -> None:
    path = folder.path / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def add(folder: Folder, name: str, text: str) -> None:
    (folder.path / name).write_text((folder.path / name).read_text() + text)


def line_of(folder: Folder, name: str, part: str) -> int:
    return next(number for number, line in enumerate((folder.path / name).read_text().splitlines(), 1) if part in line)


def check_refused(folder: Folder, *words: str) -> str:
    """``policy check`` says all the words, exits 2, and has made nothing."""
    before = sorted(folder.path.rglob("*"))
    done = inside(folder, "policy", "check")
    assert done.exit_code == 2, done.output
    for word in words:
        assert word in done.output, done.output
    assert sorted(folder.path.rglob("*")) == before, "it starts nothing and writes nothing"
    return done.output


def test_the_folder_of_these_tests_is_good(pinned):
    assert inside(pinned, "policy", "check").exit_code == 0


SERVER = '\n[servers.b]\ncommand = "x"\n'


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("[agents.payer]", "[agents.payer", ["remit.toml:{line}: not TOML"]),
        ("tasks =", "tasks = [] =", ["remit.toml:{line}: not TOML"]),
        (
            "tasks =",
            "taks =",
            ["remit.toml:{line}: agents.payer.taks", "did you mean 'tasks'", "attest, description, manifest, spiffe_id, tasks"],
        ),
        ('["pay"]', '["pya"]', ["remit.toml:{line}: agents.payer.tasks", "did you mean 'pay'", "allowed: pay"]),
        ('["pay"]', '["pay", 5]', ["remit.toml:{line}: agents.payer.tasks", "list of strings"]),
        ('["pay"]', '["pay"]\nspiffe_id = "spiffe://other.example/x"', ["agents.payer.spiffe_id", "not of this trust domain"]),
        ("port =", 'host = 5\nport = "x" #', ["host must be a string", "server.port: port must be a whole number"]),
        ("port =", 'host = "a b" #', ["remit.toml:{line}: server.host"]),
        ("port =", 'host = "a\\u0000b" #', ["remit.toml:{line}: server.host"]),
        ("port =", "port = 99999999999999999999 #", ["remit.toml:{line}: server.port", "from 1 to 65,535"]),
        ('effect = "irreversible"', 'effect = "irreversble"', ["did you mean 'irreversible'? allowed: irreversible, read, write"]),
        ('effect = "irreversible"', 'effect = ""', ['tools."bank/send_money".effect', "allowed: irreversible, read, write"]),
        ('"bank/send_money"', '"bnak/send_money"', ["names no tool of a configured server", "one of: bank"]),
        ('data_class = "internal"', 'data_class = "secret"', ["allowed: confidential, internal, public, restricted"]),
        ("[tools.", SERVER + "args = 5\n[tools.", ["servers.b.args: args must be a list"]),
        ("[tools.", SERVER + 'url = "http://x"\n[tools.', ["server b needs either command or url"]),
        ("[tools.", SERVER + 'headers = { A = "b" }\n[tools.', ["servers.b.headers: headers means nothing here"]),
        ("[tools.", SERVER + 'env = { A = "${{NOPE}}" }\n[tools.', ["servers.b.env.A: the environment has no NOPE", "export NOPE="]),
        ("[tools.", SERVER + 'args = ["${{NOPE}}"]\n[tools.', ["servers.b.args: the environment has no NOPE"]),
        ("[tools.", SERVER + 'env = {{ "A=B" = "c" }}\n[tools.', ["cannot be passed on"]),
        ("[tools.", '[servers.b]\nurl = "ftp://x"\n[tools.', ["servers.b.url", "http:// or https://"]),
        ("[tools.", '[servers.b]\nurl = "http://"\n[tools.', ["servers.b.url", "then a host"]),
        ("[tools.", '[servers.b]\nurl = "http://x"\nheaders = {{ A = "b\\nc" }}\n[tools.', ["servers.b.headers.A", "line ends"]),
        ("[tools.", '[servers.b]\nurl = "http://x"\nenv = {{ A = "b" }}\n[tools.', ["env means nothing here"]),
        ("[tools.", "[servers.B]\n[tools.", ["'B' cannot be the name of a server"]),
        ("[tools.", "[limits]\nsessions = 0\nbody_bites = 5\n[tools.", ["from 1 to", "did you mean 'body_bytes'"]),
        ("[tools.", '[trust]\nsvid_ttl = "2h"\n[tools.', ["trust.svid_ttl", 'write "15m"']),
        ("[tools.", '[trust]\nsvid_ttl = "99999999999999h"\n[tools.', ["trust.svid_ttl"]),
        ("[tools.", '[storage]\nurl = "mysql://me:hunter2@h/x"\n[tools.', ["storage.url", "postgresql://"]),
        ("[tools.", "x = " + "[" * 5000 + "]" * 5000 + "\n[tools.", ["remit.toml: nested too deep"]),
    ],
)
def test_remit_toml_broken(pinned, old, new, words):
    line = line_of(pinned, TOML, old)
    change(pinned, TOML, old, new.replace("{{", "{").replace("}}", "}"))
    check_refused(pinned, *(word.replace("{line}", str(line)) for word in words))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("objective =", "objektive =", ["tasks/pay.toml:{line}: objektive", "did you mean 'objective'"]),
        ('"Pay {who}"', '"Pay {hwo}"', ["tasks/pay.toml:{line}", "did you mean 'who'"]),
        ('"Pay {who}"', '"Pay \\u001b[31m{who}"', ["control characters"]),
        ('"5m"', '"25h"', ["tasks/pay.toml:{line}: deadline", 'write "15m"']),
        ('"5m"', '"5 minutes"', ["tasks/pay.toml:{line}: deadline", 'write "15m"']),
        ('"5m"', '""', ["tasks/pay.toml:{line}: deadline"]),
        ('"5m"', "5", ["tasks/pay.toml:{line}: deadline: deadline must be a string"]),
        ('"5m"', '"' + "9" * 5000 + 'h"', ["tasks/pay.toml:{line}: deadline"]),
        ('"5m"', '"٥m"', ["tasks/pay.toml:{line}: deadline"]),
        ("calls = 200", "calls = 0", ["budget.calls", "from 1 to 100,000"]),
        ("calls = 200", "cals = 200", ["did you mean 'calls'"]),
        ("{ calls = 200 }", "5", ["budget must be a table"]),
        ('"internal"', '"intrenal"', ["did you mean 'internal'"]),
        ("[inputs.who]", "[inputs.Who]", ["'Who' cannot be the name of an input"]),
        ('type = "string"', 'type = "strnig"', ["did you mean 'string'"]),
        ('type = "string"', 'type = "string"\ndefault = 5', ["inputs.who.default", 'not of type "string"']),
        ('type = "string"', 'type = "string"\nmaximum = 5', ["inputs.who.maximum", "does not apply"]),
        ('type = "string"', 'type = "string"\npattern = "["', ["JSON Schema"]),
        ('"bank/fail"', '"bank/fial"', ["tasks/pay.toml", "no tool 'fial'", "did you mean 'fail'"]),
        ('"bank/fail"', '"fail"', ["tasks/pay.toml:{line}", "server/name"]),
        ('"bank/fail"', '"bank/fail"\nuses = 0', ["grant.2.uses"]),
        ('"bank/fail"', '"bank/fail"\nprompt = "bank/greet"', ["exactly one of tool, resource or prompt"]),
        ('"bank/fail"', '"bank/fail"\narguments = [1]', ["arguments must be a table"]),
        ("amount.maximum", "amuont.maximum", ["takes no argument 'amuont'", "did you mean 'amount'"]),
        ("= 500", '= "500"', ["tasks/pay.toml", "JSON Schema"]),
        ("= 500", "= 1979-05-27", ["tasks/pay.toml"]),
    ],
)
def test_a_task_type_broken(pinned, old, new, words):
    line = line_of(pinned, PAY, old)
    change(pinned, PAY, old, new)
    said = check_refused(pinned, *(word.replace("{line}", str(line)) for word in words))
    assert "there is no task type" not in said, "one mistake is told once"


@pytest.mark.parametrize(
    ("narrowing", "words"),
    [
        ("properties.amount.maximun = 500", ["arguments.properties.amount.maximun", "would be ignored", "did you mean 'maximum'"]),
        ("recipient.const = 'bob'", ["arguments.recipient", "under arguments.properties.recipient"]),
        ("properties.recipient.format = 'email'", ["not enforced", "use pattern"]),
        ("properties.recipient.within = 5", ["within must be a folder"]),
        ("properties.recipient.within = ''", ["within must be a folder"]),
        ("properties.recipient = { within = '/a', pattern = 'b$' }", ["within replaces pattern"]),
        ("properties.recipient.maximum = 500", ["recipient.maximum", "takes string"]),
        ("properties.amount.pattern = '^5$'", ["amount.pattern", "takes integer"]),
        ("properties.amount.anyOf = [{ maxLength = 3 }]", ["amount.anyOf.0.maxLength"]),
        ("anyOf = [{ properties.amount.maximun = 5 }]", ["would be ignored"]),
        ("properties.recipient.origin = ['somewhere']", ["origin must be a list of names"]),
        ("properties.recipient.'$ref' = 'http://x/y'", ["may not refer"]),
    ],
)
def test_a_narrowing_that_would_not_hold_is_refused(pinned, narrowing, words):
    """A word that JSON Schema ignores would leave open what its author meant to close."""
    add(pinned, PAY, f'[[grant]]\ntool = "bank/send_money"\narguments.{narrowing}\n')
    check_refused(pinned, PAY, *words)


@pytest.mark.parametrize(
    ("narrowing", "good"),
    [
        ("any.maximum = 5", False),
        ("any = { type = 'integer', maximum = 5 }", True),
        ("any.const = 5", True),
        ("both.maximum = 5", False),
        ("both = { type = 'string', pattern = '^a$' }", True),
        ("maybe.maximum = 5", True),
        ("list = { type = 'array', items.pattern = '^a$' }", True),
        ("list = { type = 'array', items.maximum = 5 }", False),
    ],
)
def test_a_narrowing_holds_for_every_value_the_tool_takes(pinned, narrowing, good):
    add(pinned, PAY, f'[[grant]]\ntool = "bank/loose"\narguments.properties.{narrowing}\n')
    done = inside(pinned, "policy", "check")
    assert done.exit_code == (0 if good else 2), done.output
    assert good or "state type" in done.output


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("permit (principal, action, resource)", [":1", "does not end with ';'"]),
        ("\n\npermit (principal action, resource);", [":3", "not a Cedar policy"]),
        ('permit (principal, action == Action::"bank/ehco", resource);', [":1", 'unrecognized action `Action::"bank/ehco"`', "--schema"]),
        ('permit (principal, action in Action::"raed", resource);', ["unrecognized action"]),
        ("permit (principal, action, resource) when { resource.effect > 5 };", ["expected Long but saw String"]),
        ('permit (principal, action, resource) when { resource.efect == "read" };', ["`efect`"]),
        ('permit (principal, action, resource) when { context.approval.by == "x" };', ["optional attribute `approval`", "`has`"]),
        ('permit (principal == User::"x", action, resource);', ["unrecognized entity type `User`"]),
        ("permit (principal == ?principal, action, resource);", ["templates"]),
        ('@id("a") permit (principal, action, resource);\n@id("a") forbid (principal, action, resource);', [":2", "taken by"]),
        ("permit (principal, action, resource) when { " + "(" * 3000 + "true" + ")" * 3000 + " };", ["nested deeper"]),
        ("\x00", [":1"]),
    ],
)
def test_a_policy_broken(pinned, text, words):
    (pinned.path / CEDAR).write_text(text)
    check_refused(pinned, CEDAR, *words)


@pytest.mark.parametrize(
    ("name", "what"),
    [
        *((name, what) for name in (TOML, PAY, CEDAR) for what in ("not text", "huge", "a folder", "a pipe", "a link to nowhere")),
        *((LOCK, what) for what in ("not text", "huge", "a folder")),
    ],
)
def test_a_file_that_is_no_text(pinned, name, what):
    """Also where the name is only listed: a policy that cannot be read may be the one that forbids."""
    path = pinned.path / name
    path.unlink()
    if what == "not text":
        path.write_bytes(b"a = 1\n\xff\n")
    elif what == "huge":
        path.write_bytes(b" " * 17_000_000)
    elif what == "a folder":
        path.mkdir()
    elif what == "a pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("nowhere")
    said = check_refused(pinned, name)
    if what == "not text" and name != LOCK:
        assert f"{name}:2: not UTF-8" in said


@pytest.mark.parametrize("name", ["tasks", "policies"])
def test_a_file_where_a_folder_is_expected(pinned, name):
    for path in (pinned.path / name).iterdir():
        path.unlink()
    (pinned.path / name).rmdir()
    (pinned.path / name).write_text("")
    check_refused(pinned, f"{name}: cannot be read: Not a directory")


def test_a_missing_folder_and_an_empty_one(pinned, tmp_path):
    for words in (["policy", "check"], ["task", "list"], ["serve"], ["run", "pay", "true"], ["pin"], ["agent", "list"]):
        done = CliRunner().invoke(main, [*words[:1], *words[1:2], "-C", str(tmp_path / "none"), *words[2:]])
        assert done.exit_code == 2, (words, done.output)
    (pinned.path / TOML).unlink()
    check_refused(pinned, "remit.toml: there is no such file", "`remit init` writes one")


def test_pins_that_are_none(pinned):
    for text in ("{", "[]", '{"version": 2, "servers": {}}', '{"version": 1, "servers": {"bank": [5]}}'):
        (pinned.path / LOCK).write_text(text)
        check_refused(pinned, LOCK, "restore it from git")
    (pinned.path / LOCK).unlink()
    check_refused(pinned, LOCK, "not pinned yet", "remit pin bank")


def test_text_as_windows_writes_it_is_text(pinned):
    for name in (TOML, PAY, CEDAR):
        path = pinned.path / name
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert inside(pinned, "policy", "check").exit_code == 0


def test_every_mistake_is_told_at_once_and_json_says_the_same(pinned):
    change(pinned, TOML, "tasks =", "taks =")
    change(pinned, PAY, '"5m"', '"5"')
    (pinned.path / "tasks" / "other.toml").mkdir()
    (pinned.path / "tasks" / "Bad Name.toml").write_text(TASK)
    words = ["taks", "deadline", "tasks/other.toml: not a file", "'Bad Name' cannot be the name of a task type"]
    check_refused(pinned, *words)
    done = inside(pinned, "policy", "check", "--json")
    error = json.loads(done.stdout)["error"]
    assert error["code"] == "configuration"
    assert all(word in error["message"] for word in words)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda keys: (keys / "tokens.key").chmod(0o644), ["tokens.key: other accounts can read this key", "chmod 600"]),
        (lambda keys: (keys / "ledger.key").write_text("junk"), ["ledger.key: not a private key in PEM form"]),
        (lambda keys: (keys / "ledger.key").write_text(""), ["ledger.key: not a private key in PEM form"]),
        (lambda keys: (keys / "ledger.key").write_bytes((keys / "tokens.key").read_bytes()), ["ledger.key: not an Ed25519 key"]),
        (lambda keys: (keys / "values.key").write_text("short"), ["values.key: not 32 bytes in base64"]),
        (lambda keys: [(keys / "tokens.key").unlink(), (keys / "tokens.key").mkdir(mode=0o700)], ["tokens.key"]),
        (lambda keys: [file.unlink() for file in keys.iterdir()] + [keys.rmdir(), keys.write_text("")], ["keys"]),
    ],
)
def test_keys_that_cannot_be_trusted(pinned, spoil, words):
    keys = pinned.path / "state" / "keys"
    load_or_make_keys(keys)
    spoil(keys)
    for command in (["serve"], ["run", "pay", "-i", "who=bob", "--", "touch", str(pinned.path / "started")], ["task", "list"]):
        done = inside(pinned, *command)
        assert done.exit_code == 2, done.output
        assert all(word in done.output for word in words), done.output
    assert not (pinned.path / "started").exists()
    assert not (pinned.path / "state" / "remit.db").exists(), "nothing was started"
    assert pinned.reached() == []


@pytest.mark.parametrize(
    ("toml", "word"),
    [
        ('[storage]\npath = "policies"\n', "policies"),
        ('[storage]\npath = "remit.toml"\n', "not a database"),
        ('[storage]\npath = "/proc/none/x.db"\n', "/proc/none"),
        ('[storage]\npath = "a\\u0000b"\n', "null byte"),
        ('[storage]\nurl = "postgresql://me:hunter2@127.0.0.1:1/x"\n', "store"),
        ('[storage]\nurl = "postgresql://me:hunter2@[::1/x"\n', "store"),
    ],
)
def test_a_store_that_cannot_be_opened(pinned, toml, word):
    add(pinned, TOML, toml)
    done = inside(pinned, "task", "list")
    assert done.exit_code in {1, 2}, done.output
    assert word in done.output


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["payy", "-i", "who=bob", "--", "true"], 1, "there is no task type 'payy'"),
        (["pay", "-i", "who", "--", "true"], 2, "not KEY=VALUE"),
        (["pay", "-i", "who=a", "-i", "who=b", "--", "true"], 2, "given twice"),
        (["pay", "--agent", "nobody", "-i", "who=a", "--", "true"], 1, "declared in remit.toml: payer"),
        (["pay", "-i", "woh=a", "--", "true"], 2, "its inputs: who"),
        (["pay", "-i", "who=a", "--", "/nonexistent/agent"], 2, "cannot start '/nonexistent/agent'"),
        (["pay"], 2, "Missing argument 'COMMAND...'"),
    ],
)
def test_a_wrong_use_of_run(pinned, words, code, said):
    done = inside(pinned, "run", *words)
    assert done.exit_code == code
    assert said in done.output


def test_a_port_or_a_host_that_cannot_be_had(pinned):
    for host in ('"no.such.host.invalid"', '"' + "x" * 70 + '.example"'):
        toml = (pinned.path / TOML).read_text()
        change(pinned, TOML, "[server]", f"[server]\nhost = {host}")
        done = inside(pinned, "serve")
        assert done.exit_code == 2
        assert "cannot listen on" in done.output
        (pinned.path / TOML).write_text(toml)


def until(condition, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.05)


def test_a_running_server_keeps_the_set_in_force_and_says_so_and_takes_the_next_good_one(pinned):
    assert pinned.remit("pin").returncode == 0
    change(pinned, PAY, '[[grant]]\ntool = "bank/fail"\n', "")
    running = pinned.start("serve")

    def ready() -> bool:
        with contextlib.suppress(OSError):
            return http(pinned, "GET", "/readyz")[0] == 200
        return False

    def allowed() -> bool:
        return not answer(http(pinned, "POST", "/mcp/bank", token, CALL, Mcp_Session_Id=working))["result"].get("isError")

    until(ready)
    token = open_task(pinned)["token"]["access_token"]
    working = session(pinned, token)
    assert allowed()
    good = {name: (pinned.path / name).read_bytes() for name in (TOML, PAY, CEDAR)}
    said = b""
    os.set_blocking(running.stderr.fileno(), False)

    def told(word: bytes, times: int = 1) -> bool:
        nonlocal said
        with contextlib.suppress(BlockingIOError):
            said += os.read(running.stderr.fileno(), 65_536)
        return said.count(word) >= times

    breaks = {
        PAY: (b"[[grant]\n", b"tasks/pay.toml:1: not TOML"),
        CEDAR: (b"\n\npermit (principal action, resource);", b"policies/main.cedar:3: not a Cedar policy"),
        TOML: (b"\xff", b"remit.toml:1: not UTF-8"),
    }
    for name, (text, word) in breaks.items():
        (pinned.path / name).write_bytes(text)
        until(lambda word=word: told(word))
        assert b"the running one stays" in said
        assert allowed(), f"{name} broken: the running set stays in force"
        (pinned.path / name).write_bytes(good[name])
    assert b"Traceback" not in said
    (pinned.path / CEDAR).write_text('@id("none") forbid (principal, action, resource);')
    until(lambda: not allowed())
    last = [record for record in pinned.ledger() if record["kind"] == "call.decided"][-1]
    assert last["body"]["policies"] == ["none"]
    until(lambda: told(b"were reloaded"))
    (pinned.path / CEDAR).write_bytes(good[CEDAR])
    until(allowed)
    change(pinned, PAY, "[[grant]]", '[inputs.why]\ntype = "string"\n[[grant]]')
    until(lambda: told(b"were reloaded", 3))
    status, _, body = http(pinned, "POST", "/v1/tasks", svid(pinned), {"type": "pay", "inputs": {"who": "bob"}})
    assert status == 400, "the new task type is in force"
    assert b"why" in body
    change(pinned, TOML, "port =", "port = 1 #")
    until(lambda: told(b"change with a restart only"))
    assert allowed()
    assert running.poll() is None
    assert sum(record["kind"] == "policy.activated" for record in pinned.ledger()) == 4, "nothing broken was put in force"
