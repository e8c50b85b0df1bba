"""The contract of targets on a real sshd with a real client, and what is SSH's own."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import subprocess
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from remit.drivers.targets.base import Minted, TargetSettings
from remit.drivers.targets.ssh import SSH, KeyRevocationList, SshTarget
from remit.errors import Mistake, Outage
from remit.model.lease import LeaseState
from remit.model.task import TaskState
from tests.contract.target_contract import TargetContract, mark, refused, soon
from tests.integration.test_lease_faults import working
from tests.servers.openssh import SshServer, ssh_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

pytestmark = pytest.mark.anyio
SCOPE = {"accounts": ["deploy"], "command": ["/bin/cat"]}
SHELL = {"accounts": ["deploy"], "shell": True}


class Refused(Exception):
    """sshd lets nobody in."""


@dataclass
class Logged:
    """A connection whose other end repeats what it is sent."""

    process: asyncio.subprocess.Process
    key: Path
    server: SshServer

    async def ask(self, line: str) -> str:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(line.encode() + b"\n")
            await self.process.stdin.drain()
        except OSError:
            return ""
        return (await asyncio.wait_for(self.process.stdout.readline(), 20)).decode().rstrip("\n")

    async def alive(self) -> bool:
        return await self.ask("there?") == "there?"

    async def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()

    def told(self, account: str, *words: str, more: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        """What one more connection with this credential gives."""
        line = [*self.server.ssh(self.key, account, *more), *words]
        return subprocess.run(line, input="", capture_output=True, text=True, timeout=20, check=False)


@dataclass
class SshCase:
    server: SshServer
    target: SshTarget
    folder: Path
    given: dict[str, Minted] = field(default_factory=dict)
    kind = SSH
    scope = SCOPE

    def kept(self, minted: Minted) -> Path:
        key = Path(tempfile.mkdtemp(dir=self.folder)) / "key"
        for path, part in ((key, "private_key"), (key.with_name("key-cert.pub"), "certificate")):
            path.write_text(minted.parts[part])
            path.chmod(0o600)
        return key

    async def login(self, minted: Minted) -> Logged:
        key = self.kept(minted)
        line = self.server.ssh(key, minted.parts["user"] or "deploy")
        pipe, null = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
        session = Logged(await asyncio.create_subprocess_exec(*line, stdin=pipe, stdout=pipe, stderr=null), key, self.server)
        if not await session.alive():
            await session.close()
            raise Refused
        return session

    async def beyond(self, session: Logged) -> None:
        def tried() -> None:
            assert session.told("boss").returncode == 255
            assert session.told("deploy", "id").stdout == "", "the command is cat, whatever is asked for"
            assert "PTY allocation request failed" in session.told("deploy", more=("-tt", "-o", "LogLevel=INFO")).stderr
            port = f"{self.server.port + 1}:127.0.0.1:{self.server.port}"
            forwarded = session.told("deploy", more=("-R", port, "-o", "ExitOnForwardFailure=yes"))
            assert forwarded.returncode == 255

        await asyncio.to_thread(tried)
        raise Refused

    async def leave_things(self, session: Logged) -> None:
        """With one command that is cat there is nothing to leave; ``test_what_a_shell_has_started_ends_too`` has a shell."""

    def bad_scopes(self) -> list[Any]:
        return [
            {},
            {"accounts": ["deploy"]},
            {"command": ["/bin/cat"]},
            {**SHELL, "command": ["/bin/cat"]},
            *(
                {**SCOPE, "accounts": accounts}
                for accounts in ([], "deploy", ["*"], ["a,b"], ["-l"], [""], ["a b"], [7], ["a\nb"], ["a"] * 99)
            ),
            *({**SCOPE, "command": command} for command in ([], "cat", [""], [7], ["cat", "a\nb"], ["cat", "x" * 5_000])),
            *({**SCOPE, "addresses": addresses} for addresses in ([], "10.0.0.1", ["everywhere"], ["10.0.0.1/8"], ["!10.0.0.1"])),
            *({**SCOPE, "allow": allow} for allow in (["agent-forwarding"], ["*"], "pty", [7])),
            {**SHELL, "shell": 1},
            {**SHELL, "shell": "true"},
            {**SCOPE, "more": 1},
        ]

    def standing(self) -> set[str]:
        """sshd keeps no list: which of those that were given out it would still take, by its own tool and its own copy of the list."""
        there = set()
        for name, minted in self.given.items():
            certificate = self.kept(minted).with_name("key-cert.pub")
            words = ["ssh-keygen", "-Q", "-f", str(self.server.list_file.parents[1] / "etc" / "remit.krl"), str(certificate)]
            if subprocess.run(words, capture_output=True, timeout=20, check=False).returncode == 0:
                there.add(name)
        return there

    def secrets_told(self, minted: Minted) -> list[str]:
        files = [self.server.log, *self.server.list_file.parent.iterdir(), *(self.server.list_file.parents[1] / "etc").iterdir()]
        inner = minted.parts["private_key_base64"][-60:]
        return [str(file) for file in files if inner.encode() in file.read_bytes()]

    def down(self) -> None:
        """The file system with the list is gone."""
        self.server.list_file.parent.rename(self.server.list_file.parent.with_name("away"))

    def up(self) -> None:
        self.server.list_file.parent.with_name("away").rename(self.server.list_file.parent)


class Noted(SshTarget):
    """The driver, with a note of what it gave out."""

    def __init__(self, given: dict[str, Minted], *arguments: Any) -> None:
        super().__init__(*arguments)
        self._given = given

    async def mint(self, mark: str, *arguments: Any) -> Minted:
        minted = await super().mint(mark, *arguments)
        self._given[mark] = minted
        return minted


@pytest.fixture(scope="module")
def server() -> Iterator[SshServer]:
    with ssh_server() as running:
        yield running


def settings(server: SshServer, apply: Path | None = None) -> TargetSettings:
    return TargetSettings(name="hosts", kind="ssh", values={"list_file": str(server.list_file), "apply": str(apply or server.apply)})


def secret_of(text: str) -> Any:
    async def secret() -> str:
        return text

    return secret


@pytest.fixture
async def case(server: SshServer, tmp_path: Path) -> AsyncIterator[SshCase]:
    given: dict[str, Minted] = {}
    server.list_file.unlink(missing_ok=True)
    made = SshCase(server, Noted(given, settings(server), secret_of(server.authority)), tmp_path, given)
    yield made
    await made.target.close()


class TestSsh(TargetContract):
    """The contract."""


async def test_a_word_of_the_command_is_one_word_whatever_it_is(case):
    """An input cannot end the command and begin another."""
    odd = "; touch /tmp/owned; $(id) `id` 'x' \"y\" \\ * ~ \u00e4"
    minted = await case.target.mint(mark(50), {"accounts": ["deploy"], "command": ["/usr/bin/printf", "[%s]", odd, "a b"]}, soon())
    done = await asyncio.to_thread(Logged(None, case.kept(minted), case.server).told, "deploy", "something else")
    assert done.stdout == f"[{odd}][a b]"


async def test_what_a_shell_has_started_ends_too(case):
    minted = await case.target.mint(mark(51), SHELL, soon())
    key = case.kept(minted)
    line = case.server.ssh(key, "deploy")
    session = await asyncio.create_subprocess_exec(*line, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE)
    logged = Logged(session, key, case.server)
    assert await logged.ask("trap '' HUP TERM; (trap '' HUP TERM; sleep 1000; sleep 1000) & echo $!") != ""
    started = await logged.ask("sh -c 'echo $$; exec sleep 1000'")
    assert Path(f"/proc/{started}").exists()
    assert await case.target.revoke(mark(51), minted) is True
    for _ in range(100):
        if not Path(f"/proc/{started}").exists():
            break
        await asyncio.sleep(0.05)
    assert not Path(f"/proc/{started}").exists()
    assert subprocess.run(["pgrep", "-u", "61002"], capture_output=True, text=True, timeout=20, check=False).stdout == ""
    await logged.close()


async def test_one_revocation_leaves_the_others_alone(case):
    first, other = await case.target.mint(mark(52), SCOPE, soon()), await case.target.mint(mark(53), SCOPE, soon())
    session = await case.login(other)
    await case.target.revoke(mark(52), first)
    assert await session.alive()
    assert await refused(case, first)
    await case.target.revoke(mark(53), other)
    assert not await session.alive()
    await session.close()


def test_a_login_that_is_under_way_while_it_is_revoked_is_refused(server):
    """sshd has looked at its list before, and ``ssh-revoke`` has looked for connections before this one was noted."""
    run = server.apply.parents[1] / "run"
    words = [server.apply.with_name("ssh-principals"), mark(80), "deploy"]
    assert subprocess.run(words, capture_output=True, timeout=20, check=True).stdout == b"deploy\n"
    noted = list(run.glob(f"{mark(80)}.*"))
    assert [one.name.split(".")[1] for one in noted] == [str(os.getpid())]
    (run / f"{mark(80)}.revoked").touch()
    done = subprocess.run(words, capture_output=True, timeout=20, check=False)
    assert (done.returncode, done.stdout) == (1, b"")
    for one in [*noted, run / f"{mark(80)}.revoked"]:  # else the next revocation ends this process
        one.unlink()


@pytest.mark.parametrize("key_id", ["remit_../../x", "remit_a b", "remit_A", "remit_a.1"])
def test_a_key_id_that_is_no_mark_is_refused(server, key_id):
    done = subprocess.run([server.apply.with_name("ssh-principals"), key_id, "deploy"], capture_output=True, timeout=20, check=False)
    assert (done.returncode, done.stdout) == (1, b"")


async def test_it_works_from_the_named_addresses_alone(case):
    for addresses, lets in ((["10.0.0.0/8"], False), (["10.0.0.0/8", "127.0.0.1"], True)):
        minted = await case.target.mint(mark(54), {**SCOPE, "addresses": addresses}, soon())
        assert await refused(case, minted) is not lets


async def test_a_program_that_fails_leaves_the_lease_to_be_tried_again(case, tmp_path):
    """What is on the list but with no host is not gone."""
    program = tmp_path / "apply"
    program.write_text("#!/bin/sh\n[ $# = 0 ]\n")
    program.chmod(0o755)
    failing = SshTarget(settings(case.server, program), secret_of(case.server.authority))
    minted = await failing.mint(mark(55), SCOPE, soon())
    for _ in range(2):
        with pytest.raises(Outage) as caught:
            await failing.revoke(mark(55), minted)
        assert "ended with 1" in caught.value.message
    program.write_text(f'#!/bin/sh\nexec {case.server.apply} "$@"\n')
    assert await failing.revoke(mark(55), minted) is True
    assert await refused(case, minted)
    assert await failing.revoke(mark(55), minted) is False
    await failing.close()


async def test_a_list_that_reached_no_host_is_taken_there_again(case, tmp_path):
    """The first one, say: the program fails, and is run again by whoever mints next, and then no more."""
    program, ran = tmp_path / "apply", tmp_path / "ran"
    program.write_text(f"#!/bin/sh\necho ran >> {ran}\nexit 1\n")
    program.chmod(0o755)
    failing = SshTarget(settings(case.server, program), secret_of(case.server.authority))
    for _ in range(2):
        with pytest.raises(Outage):
            await failing.mint(mark(64), SCOPE, soon())
    assert ran.read_text() == "ran\n" * 2
    program.write_text(f"#!/bin/sh\necho ran >> {ran}\n")
    await failing.mint(mark(65), SCOPE, soon())
    await failing.mint(mark(66), SCOPE, soon())
    assert ran.read_text() == "ran\n" * 3
    await failing.close()


async def test_a_task_has_one_and_it_ends_with_the_task(server, tmp_path):
    """Through a whole node: no list is compared, and none is taken for gone."""
    server.list_file.unlink(missing_ok=True)
    (tmp_path / "authority").write_text(server.authority)
    (tmp_path / "authority").chmod(0o600)
    configured = replace(settings(server), secret_file=str(tmp_path / "authority"))
    async with working(tmp_path, configured) as node:
        assert await node.parts.reconciliation.target("hosts") == 0
        assert server.list_file.exists(), "looked after before anything is minted"
        task = await node.open("hosts", scope=json.dumps(SCOPE))
        minted = await node.parts.leases.have(task.id, "hosts")
        case = SshCase(server, None, tmp_path)
        session = await case.login(minted)
        assert await node.parts.reconciliation.target("hosts") == 0
        assert await session.alive()
        await node.tasks.end(task.id, TaskState.COMPLETED, by="alice")
        await node.parts.end_task(task.id)
        assert {lease.state for lease in (await node.tasks.view(task.id)).leases.values()} == {LeaseState.REVOKED}
        assert not await session.alive()
        assert await refused(case, minted)
        await session.close()


async def test_a_program_that_hangs_is_given_up(case, tmp_path, monkeypatch):
    monkeypatch.setattr("remit.drivers.targets.revocation_lists._APPLY_SECONDS", 0.2)
    program = tmp_path / "apply"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o755)
    hanging = SshTarget(settings(case.server, program), secret_of(case.server.authority))
    with pytest.raises(Outage):
        await hanging.mint(mark(56), SCOPE, soon())
    await hanging.close()


async def test_two_nodes_write_one_list(case):
    """Neither loses what the other has revoked, whoever is first."""
    nodes = [SshTarget(settings(case.server), secret_of(case.server.authority)) for _ in range(3)]
    marks = [mark(number) for number in range(60, 75)]
    await asyncio.gather(*(nodes[number % 3].revoke(one) for number, one in enumerate(marks)))
    assert set(KeyRevocationList().read(case.server.list_file.read_bytes()).entries) == set(marks)
    for node in nodes:
        await node.close()


async def test_a_mint_waits_for_no_revocation(case):
    """A program may take its time; who only looks whether all is in order does not wait for it."""
    await case.target.mint(mark(81), SCOPE, soon())
    descriptor = os.open(f"{case.server.list_file}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        revoking = asyncio.create_task(case.target.revoke(mark(81)))
        await case.target.mint(mark(82), SCOPE, soon())
        assert not revoking.done()
    finally:
        os.close(descriptor)
    assert await revoking is True


async def test_while_somebody_else_holds_the_list_the_wait_ends(case, monkeypatch):
    monkeypatch.setattr("remit.drivers.targets.revocation_lists._LOCK_SECONDS", 0.1)
    descriptor = os.open(f"{case.server.list_file}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        with pytest.raises(Outage):
            await case.target.revoke(mark(57))
    finally:
        os.close(descriptor)
    assert await case.target.revoke(mark(57)) is True


@pytest.mark.parametrize(
    "data", [b"ssh-ed25519 AAAA somebody\n", b"SSHKRL\n\0" + b"\0" * 40, b"\0" * 80, KeyRevocationList.__doc__.encode()]
)
async def test_what_is_no_list_of_ours_is_not_written_over(case, data):
    case.server.list_file.write_bytes(data)
    for attempt in (case.target.revoke(mark(58)), case.target.mint(mark(58), SCOPE, soon())):
        with pytest.raises(Outage) as caught:
            await attempt
        assert caught.value.code == "target_refused"
    assert case.server.list_file.read_bytes() == data


async def test_an_entry_goes_when_nothing_of_it_can_be_valid(case, monkeypatch):
    await case.target.revoke(mark(59))
    now = KeyRevocationList().read(case.server.list_file.read_bytes()).entries[mark(59)]
    monkeypatch.setattr("remit.drivers.targets.revocation_lists.time.time", lambda: now + 3 * 86_400 - 60)
    await case.target.revoke(mark(60))
    assert set(KeyRevocationList().read(case.server.list_file.read_bytes()).entries) == {mark(59), mark(60)}
    monkeypatch.setattr("remit.drivers.targets.revocation_lists.time.time", lambda: now + 3 * 86_400 + 60)
    await case.target.revoke(mark(61))
    assert set(KeyRevocationList().read(case.server.list_file.read_bytes()).entries) == {mark(60), mark(61)}


async def test_a_lease_longer_than_the_list_remembers_is_refused(case):
    with pytest.raises(Mistake):
        await case.target.mint(mark(62), SCOPE, soon(86_400 + 120))
    assert case.standing() == set()


@pytest.mark.parametrize("kind", ["text", "other kind", "passphrase"])
async def test_a_root_secret_that_will_not_do_is_a_mistake_without_it(server, tmp_path, kind):
    words = {"other kind": ("ecdsa", ""), "passphrase": ("ed25519", "a passphrase")}.get(kind)
    text = "just-some-text"
    if words:
        subprocess.run(["ssh-keygen", "-q", "-t", words[0], "-N", words[1], "-f", tmp_path / "key"], check=True)
        text = (tmp_path / "key").read_text()
    target = SshTarget(settings(server), secret_of(text))
    with pytest.raises(Mistake) as caught:
        await target.mint(mark(63), SCOPE, soon())
    assert text.splitlines()[-1] not in f"{caught.value}{caught.value.hint}"
    assert [finding.good for finding in await target.check()] == [False]
    await target.close()


async def test_the_check_tells_of_a_program_that_others_can_change(case, tmp_path):
    program = tmp_path / "apply"
    program.write_text("#!/bin/sh\n")
    for mode, word in ((0o777, "by others"), (0o644, "no program")):
        program.chmod(mode)
        target = SshTarget(settings(case.server, program), secret_of(case.server.authority))
        (bad,) = [finding.text for finding in await target.check() if not finding.good]
        assert word in bad
        await target.close()
    program.unlink()
    target = SshTarget(settings(case.server, program), secret_of(case.server.authority))
    assert [finding.good for finding in await target.check()][-1] is False
    await target.close()


def test_a_scope_may_be_made_of_inputs():
    """Before a task is opened its inputs stand for ``x``."""
    SSH.check_scope({"accounts": ["x"], "command": ["x", "--", "x"], "addresses": ["10.0.0.0/8"], "allow": ["pty", "port-forwarding"]})


@pytest.mark.parametrize("change", [{"list_file": "hosts.krl"}, {"apply": "revoke"}, {"apply": ""}])
def test_settings_that_will_not_do(change):
    good = {"list_file": "/var/lib/remit/hosts.krl", "apply": "/usr/local/lib/remit/ssh-revoke"}
    SSH.check_settings(good)
    with pytest.raises(Mistake):
        SSH.check_settings(good | change)
