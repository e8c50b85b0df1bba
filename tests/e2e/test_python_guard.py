"""A program whose functions are the tools: no MCP server at all. Pinned from their signatures, guarded, observed."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import remit
from remit.cli.main import main
from remit.errors import Conflict, Unauthenticated
from remit.logic.records import decode
from remit.model.call_record import CallDecided, CallFinished
from remit.model.task import TaskState
from remit.node import open_node
from tests.e2e.python_door import place

TOOLS = '''
import asyncio, dataclasses
from typing import Any, Literal
import remit

MADE = []

@dataclasses.dataclass
class Payment:
    to: str
    amount: int
    tags: list[str] = dataclasses.field(default_factory=list)

@remit.guard("local/pay")
def pay(payment: Payment, urgency: Literal["low", "high"] = "low") -> dict[str, Any]:
    """Pay somebody."""
    MADE.append((payment, urgency))
    return {"paid": payment.amount, "urgency": urgency}

@remit.guard("local/anything")
def anything(value: Any) -> Any:
    MADE.append(value)
    return value

@remit.guard("local/breaks")
def breaks(how: str) -> Any:
    if how == "result":
        return object()
    raise {"exception": ValueError, "exit": SystemExit, "refusal": remit.Outage}[how]("it broke")

@remit.guard("local/waits")
async def waits(seconds: float) -> str:
    MADE.append("begun")
    await asyncio.sleep(seconds)
    return "waited"

class Account:
    balance = 7

    @remit.guard("local/balance")
    def look(self, currency: str) -> str:
        """Look."""
        return f"{self.balance} {currency}"

    @staticmethod
    @remit.guard("local/static")
    def still(x: int) -> int:
        return x

@remit.guard("local/soft", on_refusal=lambda error: f"no: {error.code}")
def soft(x: int) -> str:
    return "done"

@remit.guard("local/stated", result=lambda value: value.name)
def stated(name: str) -> Any:
    class Thing: pass
    thing = Thing()
    thing.name = name
    return thing

ROUTES = remit.asgi.Routes(
    remit.asgi.Route("GET", "/rows/{table}", "local/rows", {"table": remit.asgi.path(str), "most": remit.asgi.query(int, default=5)})
)
'''
TOML = """
[agents.worker]
tasks = ["work"]
[servers.local]
python = ["MODULE"]
effect = "read"
data_class = "public"
trust = "trusted"
sends = "nowhere"
[tools."local/pay"]
effect = "irreversible"
"""
CEDAR = """
@id("reads") permit (principal, action in Action::"read", resource);
@id("small") permit (principal, action == Action::"local/pay", resource) when { context.arguments.payment.amount < 10 };
@id("approved") permit (principal, action == Action::"local/pay", resource) when { context has approval };
"""
TASK = """
objective = "Work"
data_ceiling = "public"
budget = { calls = 100, bytes_read = 1000000 }
[[grant]]
tool = "local/*"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Iterator[Path]:
    made = tmp_path_factory.mktemp("guard")
    name = f"tools_{os.getpid()}"
    for part in ("tasks", "policies"):
        (made / part).mkdir()
    (made / f"{name}.py").write_text(TOOLS)
    (made / "remit.toml").write_text(TOML.replace("MODULE", name))
    (made / "tasks" / "work.toml").write_text(TASK)
    (made / "policies" / "main.cedar").write_text(CEDAR)
    assert run_cli("pin", made) == 0
    yield made
    sys.modules.pop(name, None)


def run_cli(word: str, folder: Path) -> int:
    from click.testing import CliRunner

    answer = CliRunner().invoke(main, [word, "-C", str(folder)])
    print(answer.output)
    return answer.exit_code


@pytest.fixture
def tools(folder) -> ModuleType:
    module = sys.modules.get(f"tools_{os.getpid()}") or importlib.import_module(f"tools_{os.getpid()}")
    module.MADE.clear()
    return module


def records(folder: Path, task: str, kind: type) -> list[Any]:
    async def read() -> list[Any]:
        async with open_node(folder) as node:
            bodies = [decode(entry.body).body for entry in await node.store.task_entries(task)]
            return [body for body in bodies if isinstance(body, kind)]

    return asyncio.run(read())


def endings(folder: Path, task: str) -> list[str]:
    return [body.ending for body in records(folder, task, CallFinished)]


def last(folder: Path, task: str) -> tuple[str, list[str]]:
    decided = records(folder, task, CallDecided)[-1]
    return decided.outcome, [reason.code for reason in decided.reasons]


def test_plain_code_from_beginning_to_end(folder, tools):
    with remit.open(folder) as r, r.task("work", on_behalf_of="alice") as task:
        assert tools.pay(tools.Payment("bob", 5), urgency="high") == {"paid": 5, "urgency": "high"}
        assert tools.pay({"to": "bob", "amount": 6}) == {"paid": 6, "urgency": "low"}
        assert tools.Account().look("EUR") == "7 EUR"
        assert tools.Account.still(3) == 3
        assert tools.stated("x").name == "x"
        with pytest.raises(remit.NeedsApproval) as asked:
            tools.pay(tools.Payment("bob", 50))
        assert asked.value.approval
        assert asked.value.approval in str(asked.value)
        assert [payment for payment, _ in tools.MADE] == [tools.Payment("bob", 5), tools.Payment("bob", 6)]
        assert task.view.on_behalf_of == "alice"
    assert endings(folder, task.id) == ["ok"] * 5
    with open_again(folder) as node_view:
        assert node_view(task.id).state is TaskState.COMPLETED


@contextlib.contextmanager
def open_again(folder: Path) -> Iterator[Any]:
    async def view(task: str) -> Any:
        async with open_node(folder) as node:
            return await node.tasks.view(task)

    yield lambda task: asyncio.run(view(task))


def test_without_a_task_nothing_runs(folder, tools):
    with pytest.raises(remit.Refusal) as refused:
        tools.anything(1)
    assert refused.value.code == "no_task"
    assert tools.soft(1) == "no: no_task"
    with remit.open(folder) as r:
        with r.task("work"):
            assert tools.soft(1) == "done"
            found = []
            threading.Thread(target=lambda: found.append(tools.soft(1))).start()
            while not found:
                pass
            assert found == ["no: no_task"]  # a thread that was not handed the task's context has none
        assert tools.soft(1) == "no: no_task"
    assert tools.MADE == []


def test_the_function_gets_what_was_decided_on_and_not_what_it_becomes(folder, tools):
    with remit.open(folder) as r, r.task("work"):
        payment = tools.Payment("bob", 5, ["a"])
        tools.pay(payment)
        given, _ = tools.MADE[0]
        assert given == payment
        assert given is not payment
        assert given.tags is not payment.tags


def cyclic() -> list[Any]:
    made: list[Any] = []
    made.append(made)
    return made


def deep(levels: int) -> Any:
    made: Any = 1
    for _ in range(levels):
        made = [made]
    return made


NONE_OF_JSON = [
    float("nan"),
    float("inf"),
    b"bytes",
    bytearray(b"x"),
    object(),
    {1: "number as key"},
    {"x": {2, 3}},
    "half \ud800 pair",
    {"\udfff": 1},
    cyclic(),
    deep(1_000),
    2**60,
    "x" * 5_000_000,
    ["x" * 1_000] * 5_000,
    print,
    Exception("x"),
]


@pytest.mark.parametrize("value", NONE_OF_JSON, ids=lambda value: type(value).__name__)
def test_what_is_no_json_is_refused_clearly_and_nothing_runs(folder, tools, value):
    with remit.open(folder) as r, r.task("work") as task:
        with pytest.raises(remit.Mistake) as by_guard:
            tools.anything(value)
        assert by_guard.value.code in {"arguments", "too_large", "json"}
        with pytest.raises(remit.Mistake) as by_hand:
            task.authorize("local/anything", {"value": value})
        assert by_hand.value.code == by_guard.value.code
        assert len(str(by_hand.value)) < 500
        for wrong in (value, [value], {"value": [1, {"x": value}]}):
            with pytest.raises(remit.RemitError):
                task.authorize("local/anything", wrong)
    assert tools.MADE == []


def test_large_and_odd_arguments_that_are_json_pass(folder, tools):
    odd = [list(range(100_000)), {"a": [None, True, 0.5, -0.0, "\u202e", "é" * 1_000]}, deep(60), "", 2**53 - 1, (1, 2)]
    with remit.open(folder) as r, r.task("work"):
        for value in odd:
            assert tools.anything(value) == (list(value) if isinstance(value, tuple) else value)


def test_calls_that_do_not_fit_the_signature_are_refused_as_everywhere(folder, tools):
    payment = tools.Payment("bob", 5)
    fits_not: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
        ((), {}),
        ((), {"payment": payment, "speed": 1}),
        ((), {"payment": {"to": 5, "amount": 5}}),
        ((), {"payment": {"to": "bob", "amount": 5}, "urgency": "never"}),
        ((), {"payment": {"to": "bob", "amount": "5"}}),
    ]
    with remit.open(folder) as r, r.task("work") as task:
        for args, kwargs in fits_not:
            with pytest.raises(remit.Denied) as denied:
                tools.pay(*args, **kwargs)
            assert {reason.code for reason in denied.value.reasons} == {"arguments_invalid"}, kwargs
            assert type(denied.value) is remit.Denied
        with pytest.raises(remit.Mistake, match="too many positional"):
            tools.pay(payment, "low", "more")
    assert tools.MADE == []
    assert {body.outcome for body in records(folder, task.id, CallDecided)} == {"deny"}


@pytest.mark.parametrize(
    ("how", "raised", "ending"),
    [
        ("exception", ValueError, "tool_error"),
        ("exit", SystemExit, "failed"),
        ("refusal", remit.Outage, "failed"),
        ("result", remit.Mistake, "ok"),
    ],
)
def test_however_a_function_ends_is_told(folder, tools, how, raised, ending):
    with remit.open(folder) as r, r.task("work") as task, pytest.raises(raised):
        tools.breaks(how)
    assert endings(folder, task.id) == [ending]


def test_a_cancelled_function_is_told_as_cancelled(folder, tools):
    async def run() -> str:
        async with remit.open(folder) as r, r.task("work") as task:
            assert await tools.waits(0.0) == "waited"
            tools.MADE.clear()
            running = asyncio.create_task(tools.waits(60))
            while not tools.MADE:
                await asyncio.sleep(0.01)
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
            return task.id

    assert endings(folder, asyncio.run(run())) == ["ok", "cancelled"]


def test_many_at_once_from_threads_and_coroutines(folder, tools):
    async def run() -> str:
        async with remit.open(folder) as r, r.task("work") as task:
            plain = [asyncio.to_thread(tools.anything, number) for number in range(20)]
            answers = await asyncio.gather(*plain, *(tools.waits(0.0) for _ in range(20)))
            assert sorted(answers[:20]) == list(range(20))
            assert tools.anything("in the loop") == "in the loop"
            return task.id

    task = asyncio.run(run())
    assert endings(folder, task) == ["ok"] * 41


def test_a_task_that_ends_in_the_middle_ends_the_calls_and_withholds_the_result(folder, tools):
    async def run() -> str:
        async with remit.open(folder) as r, r.task("work") as task:
            running = asyncio.create_task(tools.waits(0.3))
            while not tools.MADE:
                await asyncio.sleep(0.01)
            await task.complete()
            with pytest.raises(remit.RemitError) as withheld:
                await running
            assert isinstance(withheld.value, Unauthenticated | Conflict)
            with pytest.raises(Unauthenticated):
                await tools.waits(0.0)
            with pytest.raises(Unauthenticated):
                await task.authorize("local/anything", {"value": 1})
            return task.id

    task = asyncio.run(run())
    assert endings(folder, task) == []
    with open_again(folder) as view:
        assert view(task).state is TaskState.COMPLETED


def test_a_changed_signature_is_a_changed_tool(folder, tools):
    @remit.guard("local/anything")
    def anything(value: Any, also: int = 0) -> Any:
        raise AssertionError("it ran")

    with remit.open(folder) as r, r.task("work") as task, pytest.raises(remit.Denied):
        anything(1)
    outcome, codes = last(folder, task.id)
    assert outcome == "deny"
    assert {"manifest_changed", "tool_changed"} <= set(codes)


def test_what_cannot_be_a_tool_is_told_where_it_is_declared():
    def unnamed(*values: int) -> None: ...
    def open_ended(**values: int) -> None: ...
    def untyped(value) -> None: ...
    def odd(value: threading.Thread) -> None: ...
    def pieces() -> Iterator[int]:
        yield 1

    for function in (unnamed, open_ended, untyped, odd, pieces, staticmethod(untyped), print, 5):
        with pytest.raises(remit.Mistake) as mistake:
            remit.guard("local/x")(function)  # type: ignore[type-var, arg-type]
        assert mistake.value.code == "guard"
        assert mistake.value.hint
    for name in ("", "x", "/x", "local/"):
        with pytest.raises(remit.Mistake):
            remit.guard(name)(test_what_cannot_be_a_tool_is_told_where_it_is_declared)


def test_the_schema_is_the_signature_s(folder):
    from remit.services.pins import Pins

    pinned = Pins(folder).tools()
    assert set(pinned) == {
        f"local/{name}" for name in ("pay", "anything", "breaks", "waits", "balance", "static", "soft", "stated", "rows")
    }
    schema = pinned["local/pay"].input_schema
    assert schema["required"] == ["payment"]
    assert schema["properties"]["urgency"]["enum"] == ["high", "low"]
    assert schema["additionalProperties"] is False
    assert pinned["local/pay"].description == "Pay somebody."
    assert list(pinned["local/balance"].input_schema["properties"]) == ["currency"]


def test_a_result_that_the_task_may_not_read_any_more_is_withheld(folder, tools):
    with remit.open(folder) as r, r.task("work") as task:
        assert tools.anything("x" * 600_000)
        with pytest.raises(remit.Refusal) as withheld:
            tools.anything("y" * 600_000)
        assert withheld.value.code == "withheld"
        decision = task.authorize("local/anything", {"value": 1})
        with pytest.raises(remit.Refusal, match="must not be used"):
            task.observe(decision, "z" * 600_000)
    assert endings(folder, task.id) == ["ok", "ok", "ok"]


def test_an_end_is_told_once_by_its_task_and_on_any_node(folder):
    async def run() -> None:
        async with remit.open(folder) as first, remit.open(folder) as second, first.task("work") as task:
            token = task._session_or_raise()._token
            one = await task.authorize("local/anything", {"value": 1})
            two = await task.authorize("local/anything", {"value": 2})
            three = await task.authorize("local/anything", {"value": 2})
            await task.observe(one, {"x": 1})
            with pytest.raises(Conflict):
                await task.observe(one.id, {"x": 1})
            async with second.task_of(token) as elsewhere:  # another node, from the ledger's record
                with pytest.raises(remit.Mistake) as forgotten:
                    await elsewhere.observe(two.id, "x")
                assert forgotten.value.code == "arguments_needed"
                session = elsewhere._session_or_raise()
                from remit.sdk.session import _OpenCall

                session._open[two.id] = _OpenCall("local/anything", {"value": 3})
                with pytest.raises(Conflict) as other:
                    await elsewhere.observe(two.id, "x")
                assert other.value.code == "arguments_differ"
                session._open[two.id] = _OpenCall("local/anything", {"value": 2})
                await elsewhere.observe(two.id, "x")
                with pytest.raises(Conflict):
                    await elsewhere.observe(two.id, "x")
            async with first.task("work") as another:
                with pytest.raises(Conflict):
                    await another.observe(three, "not its own")
            await task.observe(three, "y")
            with pytest.raises(remit.Mistake, match="ending"):
                await task.observe(await task.authorize("local/anything", {"value": 4}), "y", ending="well")

    asyncio.run(run())


def test_the_server_s_way_a_proof_that_is_fetched_and_a_token_that_expires(folder, tools):
    async def run() -> str:
        async with place(folder) as where:
            asked = []

            async def proof() -> str:
                asked.append(1)
                return await where.node.identities.issue_svid("worker", attested="test")

            async with remit.connect(where.url, token=proof) as r:
                async with r.task("work", agent="worker") as task:
                    assert await tools.waits(0.0) == "waited"
                    task._session_or_raise()._token = "an old one"
                    assert await tools.waits(0.0) == "waited"
                    assert len(asked) == 2
                with pytest.raises(remit.Refusal) as wrong:
                    async with r.task("work", agent="somebody"):
                        pass
                assert wrong.value.code == "wrong_agent"
                with pytest.raises(remit.Refusal):
                    async with r.task("other"):
                        pass
                return task.id

    task = asyncio.run(run())
    assert endings(folder, task) == ["ok", "ok"]


def test_a_server_that_is_away_or_no_remit_is_an_outage(tools):
    async def nobody(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Type: text/html\r\n\r\nhello")
        await writer.drain()
        writer.close()

    async def run() -> None:
        server = await asyncio.start_server(nobody, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        for url in (f"http://127.0.0.1:{port}", "http://127.0.0.1:1", "http://nowhere.invalid"):
            async with remit.connect(url, token="x") as r:
                with pytest.raises(remit.Outage):
                    async with r.task("work"):
                        pass
                async with r.task_of("y") as task:
                    with pytest.raises(remit.Outage):
                        await task.authorize("local/anything", {"value": 1})
                    with pytest.raises(remit.Outage):  # in a thread: plain code waits, and this server answers from our own loop
                        await asyncio.to_thread(tools.anything, 1)
        server.close()
        with pytest.raises(remit.Mistake):
            async with remit.connect("ftp://x"):
                pass
        async with remit.connect(f"http://127.0.0.1:{port}") as r:
            for token in ("with\nline end", "ü", ""):
                with pytest.raises(remit.RemitError):
                    await r.task_of(token).authorize("local/anything", {"value": 1})
            with pytest.raises(Unauthenticated):
                async with r.task("work"):
                    pass

    asyncio.run(run())
    assert tools.MADE == []


def test_what_was_not_opened_or_was_closed_says_so(folder, tmp_path):
    r = remit.open(folder)
    with pytest.raises(remit.Mistake, match="not open"), BlockedTask(r):
        pass
    with r as opened:
        task = opened.task("work")
        with pytest.raises(remit.Mistake):
            task.authorize("local/anything", {"value": 1})
    with pytest.raises(remit.Outage):
        task.authorize("local/anything", {"value": 1})
    with pytest.raises(remit.Mistake), r:
        pass
    with pytest.raises(remit.Mistake), remit.open(tmp_path / "nowhere"):
        pass
    with pytest.raises(remit.Mistake), remit.open(tmp_path):
        pass
    with pytest.raises(AttributeError):
        remit.nothing  # noqa: B018


class BlockedTask:
    def __init__(self, r: remit.Remit) -> None:
        from remit.sdk.client import BlockingRemit

        self.task = BlockingRemit(r).task("work")

    def __enter__(self) -> Any:
        return self.task.__enter__()

    def __exit__(self, *_: object) -> None: ...


def test_a_module_that_cannot_be_pinned_says_why(tmp_path):
    for part in ("tasks", "policies"):
        (tmp_path / part).mkdir()
    for number, (text, _why) in enumerate(
        {"import nothing_of_that_name": "cannot be imported", "raise SystemExit(3)": "", "x = 1": "declares"}.items()
    ):
        name = f"broken_{os.getpid()}_{number}"
        (tmp_path / f"{name}.py").write_text(text)
        (tmp_path / "remit.toml").write_text(f'[servers.local]\npython = ["{name}"]\n')
        assert run_cli("pin", tmp_path) == 2
        assert not (tmp_path / "tools.lock.json").exists()
    for wrong in ("python = []", 'python = ["a b"]', 'python = ["../x"]', 'python = ["x"]\ncommand = "y"', 'python = "x"'):
        (tmp_path / "remit.toml").write_text(f"[servers.local]\n{wrong}\n")
        assert run_cli("pin", tmp_path) == 2
