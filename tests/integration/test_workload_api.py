"""The Workload API over its real socket, in one process with a clock of our own: rotation, bad peers, bounds, and remit as a client.

A SPIRE agent cannot be had here (it is no Python package): a second remit stands for it, behind the same protocol.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError
from spiffe._proto import workload_pb2, workload_pb2_grpc

from remit.doors.workload.listener import _Listener
from remit.drivers import processes, workload_api
from remit.drivers.processes import Peer, Processes
from remit.drivers.workload_api import WorkloadApiClient, certificates
from remit.errors import Mistake, Outage, Refusal, Unauthenticated
from remit.logic.records import decode
from remit.model.attestation import Process, Run
from remit.model.identity import PeerCertificate, SpiffeId, Workload
from remit.model.task import TaskState
from remit.model.token_record import AuthorityMade, TokenIssued, TokenRefused
from remit.node import open_node
from remit.services.receipt import make_receipt
from tests.support import Clock

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from remit.node import Node

pytestmark = pytest.mark.anyio
HEADER = (("workload.spiffe.io", "true"),)
ME = "spiffe://one.test/agent/me"
UID = f"uid = {os.getuid()}"
AUTHORITY_HOURS = 12
TOML = """
[trust]
domain = "one.test"
[spiffe]
socket = "state/api.sock"
authority_ttl = "12h"
[agents.me]
tasks = ["work"]
[agents.me.attest]
{attest}
[agents.other]
[servers.notes]
url = "http://127.0.0.1:9/mcp"
[limits]
workload_connections_per_account = 3
workload_requests = 2
workload_issues_per_minute = 5
"""
TASK = """
objective = "work"
deadline = "2m"
[[grant]]
resource = "notes/note://*"
"""


@dataclass
class Served:
    node: Node
    clock: Clock
    path: Path

    async def records(self, kind):
        return [body for entry in await self.node.store.entries(0, 1_000) if isinstance(body := decode(entry.body).body, kind)]


@contextlib.asynccontextmanager
async def served(folder: Path, attest: str = UID):
    (folder / "tasks").mkdir(exist_ok=True)
    (folder / "remit.toml").write_text(TOML.format(attest=attest))
    (folder / "tasks" / "work.toml").write_text(TASK)
    clock = Clock()
    async with open_node(folder, deciding=True, clock=clock) as node:
        path, node.workload.look_every_seconds = folder / "state" / "api.sock", 0.05
        async with node.workload.serving(path):
            yield Served(node, clock, path)


@contextlib.asynccontextmanager
async def calling(path: Path):
    """The client that is generated from the standard's proto, without the stock client's manners. A connection of its own."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(f"unix:{path}", options=options) as channel:
        yield channel, workload_pb2_grpc.SpiffeWorkloadAPIStub(channel)


async def refused(call) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await asyncio.wait_for(call, 20)
    assert "Traceback" not in (caught.value.details() or "")
    return caught.value.code().name


def verified(message: workload_pb2.X509SVIDResponse, authorities: bytes, now) -> str:
    """Whom the default SVID proves by a bundle, at a time (RFC 5280, by another library). Raises VerificationError."""
    leaf = x509.load_der_x509_certificate(message.svids[0].x509_svid)
    store = Store([x509.load_der_x509_certificate(one) for one in certificates(authorities)])
    names = PolicyBuilder().store(store).time(now).build_client_verifier().verify(leaf, []).subjects
    return str(names[0].value)


async def test_a_new_authority_is_known_before_it_signs_and_until_all_it_signed_has_ended(tmp_path):
    async with served(tmp_path) as one, calling(one.path) as (_, api):
        stream = api.FetchX509SVID(workload_pb2.X509SVIDRequest(), metadata=HEADER)
        messages, moments = [], []
        for hours in (0, 6, 2, 4, 2):  # made; the next is made at half a life; it signs; the first is gone
            one.clock.pass_by(hours * 3_600 + 1)
            messages.append(await asyncio.wait_for(stream.read(), 20))
            moments.append(one.clock())
        stream.cancel()
        counts = [len(certificates(message.svids[0].bundle)) for message in messages]
        assert counts == [1, 2, 2, 2, 2]
        for place in range(1, len(messages)):
            assert verified(messages[place], messages[place - 1].svids[0].bundle, moments[place]) == ME, "known before it signed"
        signers = [x509.load_der_x509_certificate(message.svids[0].x509_svid).issuer for message in messages]
        assert signers[0] == signers[1] != signers[2]
        with pytest.raises(VerificationError):
            verified(messages[-1], messages[0].svids[0].bundle, moments[-1])
        assert [body.number for body in await one.records(AuthorityMade)] == [1, 2, 3]
        assert len(await one.node.store.document_keys("x509-authority/", "", 100)) == 2, "the key of the first is erased"
        assert len(await one.records(TokenIssued)) == len(messages)
    assert b"PRIVATE KEY" not in b"".join(file.read_bytes() for file in (tmp_path / "state").glob("remit.db*"))


@dataclass
class Overtaken:
    """A real store, on which another process does something between the first look of this one and what it does then."""

    store: Any
    meanwhile: Callable[[], Awaitable[object]] | None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    async def document_keys(self, beginning: str, after: str, limit: int) -> tuple[str, ...]:
        found = await self.store.document_keys(beginning, after, limit)
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            await meanwhile()
        return found


async def test_two_processes_have_one_authority(tmp_path):
    async with served(tmp_path) as one, open_node(tmp_path, clock=one.clock) as other:
        first, second = await asyncio.gather(one.node.workload.authority.bundle(), other.workload.authority.bundle())
        assert first == second
        assert first["spiffe_sequence"] > 0


async def test_of_two_processes_that_make_an_authority_at_once_the_first_wins(tmp_path):
    async with served(tmp_path) as one, open_node(tmp_path, clock=one.clock) as other:
        late = other.workload.authority
        late._store = Overtaken(late._store, one.node.workload.authority.bundle)
        told = await late.bundle()
        assert told == await one.node.workload.authority.bundle()
        assert len([key for key in told["keys"] if key["use"] == "x509-svid"]) == 1


def request(name, **fields):
    return getattr(workload_pb2, name)(**fields).SerializeToString()


async def test_bad_requests_are_told_in_the_words_of_the_protocol(tmp_path):
    async with served(tmp_path) as one, calling(one.path) as (channel, api):
        _, svid = await one.node.workload.workloads.jwt_svid(Process(uid=os.getuid(), gid=0, pid=1), ["bank"])

        def ask(method, body=b"", metadata=HEADER, **more):
            return channel.unary_unary(f"/SpiffeWorkloadAPI/{method}")(body, metadata=metadata, timeout=20, **more)

        wanted = request("JWTSVIDRequest", audience=["bank"])
        judge = request("ValidateJWTSVIDRequest", audience="bank", svid=svid.token)
        assert workload_pb2.ValidateJWTSVIDResponse.FromString(await ask("ValidateJWTSVID", judge)).spiffe_id == ME
        cases = {
            "no header": (lambda: ask("FetchJWTSVID", wanted, ()), "INVALID_ARGUMENT"),
            "another value": (lambda: ask("FetchJWTSVID", wanted, (("workload.spiffe.io", "True"),)), "INVALID_ARGUMENT"),
            "twice": (lambda: ask("FetchJWTSVID", wanted, HEADER * 2), "INVALID_ARGUMENT"),
            "no audience": (lambda: ask("FetchJWTSVID", b""), "INVALID_ARGUMENT"),
            "an empty audience": (lambda: ask("FetchJWTSVID", request("JWTSVIDRequest", audience=[""])), "INVALID_ARGUMENT"),
            "many audiences": (lambda: ask("FetchJWTSVID", request("JWTSVIDRequest", audience=map(str, range(17)))), "INVALID_ARGUMENT"),
            "somebody else's identity": (
                lambda: ask("FetchJWTSVID", request("JWTSVIDRequest", audience=["bank"], spiffe_id="spiffe://one.test/agent/other")),
                "PERMISSION_DENIED",
            ),
            "rubbish": (lambda: ask("FetchJWTSVID", b"\xff\xff\xff"), "INVALID_ARGUMENT"),
            "compressed": (
                lambda: ask("FetchJWTSVID", request("JWTSVIDRequest", audience=["x" * 400]), compression=grpc.Compression.Gzip),
                "INVALID_ARGUMENT",
            ),
            "oversize": (lambda: ask("FetchJWTSVID", request("JWTSVIDRequest", audience=["x" * 70_000])), "RESOURCE_EXHAUSTED"),
            "another audience": (
                lambda: ask("ValidateJWTSVID", request("ValidateJWTSVIDRequest", audience="mint", svid=svid.token)),
                "INVALID_ARGUMENT",
            ),
            "no token": (
                lambda: ask("ValidateJWTSVID", request("ValidateJWTSVIDRequest", audience="bank", svid="a.b.c")),
                "INVALID_ARGUMENT",
            ),
            "an optional profile": (lambda: ask("FetchWITSVID"), "UNIMPLEMENTED"),
            "no such service": (lambda: channel.unary_unary("/grpc.health.v1.Health/Check")(b"", metadata=HEADER), "UNIMPLEMENTED"),
        }
        for name, (call, code) in cases.items():
            assert await refused(call()) == code, name
        one.clock.pass_by(3_600)
        assert await refused(ask("ValidateJWTSVID", judge)) == "INVALID_ARGUMENT", "expired"
        assert workload_pb2.JWTSVIDResponse.FromString(await ask("FetchJWTSVID", wanted)).svids[0].spiffe_id == ME, "and still serves"
        assert await refused(api.FetchX509SVID(workload_pb2.X509SVIDRequest()).read()) == "INVALID_ARGUMENT"


async def test_who_matches_nothing_gets_nothing_and_is_recorded_once(tmp_path):
    async with served(tmp_path, f"{UID}\nsha256 = '{'0' * 64}'") as one, calling(one.path) as (_, api):
        token = workload_pb2.ValidateJWTSVIDRequest(audience="bank", svid="a.b.c")
        for _ in range(2):
            assert await refused(api.FetchX509SVID(workload_pb2.X509SVIDRequest(), metadata=HEADER).read()) == "PERMISSION_DENIED"
            assert await refused(api.FetchX509Bundles(workload_pb2.X509BundlesRequest(), metadata=HEADER).read()) == "PERMISSION_DENIED"
            assert await refused(api.FetchJWTBundles(workload_pb2.JWTBundlesRequest(), metadata=HEADER).read()) == "PERMISSION_DENIED"
            assert await refused(api.FetchJWTSVID(workload_pb2.JWTSVIDRequest(audience=["a"]), metadata=HEADER)) == "PERMISSION_DENIED"
            assert await refused(api.ValidateJWTSVID(token, metadata=HEADER)) == "PERMISSION_DENIED"
        told = await one.records(TokenRefused)
        assert len(told) == 1
        assert f"pid={os.getpid()} uid={os.getuid()}" in told[0].claimed
        own = hashlib.sha256(Path(os.readlink("/proc/self/exe")).read_bytes()).hexdigest()
        assert f"sha256={own}" in told[0].claimed
        assert not await one.records(TokenIssued)


async def test_nothing_matches_by_default(tmp_path):
    async with served(tmp_path, "") as one, calling(one.path) as (_, api):
        assert await refused(api.FetchX509SVID(workload_pb2.X509SVIDRequest(), metadata=HEADER).read()) == "PERMISSION_DENIED"


OF_ANOTHER_ACCOUNT = """
import os, sys
from spiffe import WorkloadApiClient
from spiffe.workloadapi.errors import WorkloadApiError
os.setgid(65534)
os.setuid(65534)
try:
    print(WorkloadApiClient(sys.argv[1]).fetch_x509_svid(timeout=20).spiffe_id)
except WorkloadApiError as error:
    print("PERMISSION_DENIED" in str(error))
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another account")
async def test_accounts_are_told_apart_by_the_kernel(tmp_path):
    def asked(place: str) -> str:
        command = [sys.executable, "-c", OF_ANOTHER_ACCOUNT, f"unix://{place}/api.sock"]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()

    with tempfile.TemporaryDirectory() as place:  # pytest's own folders are closed to others
        os.chmod(place, 0o711)
        for attest, answer in ((UID, "True"), ("uid = 65534\ngid = 65534", ME)):
            async with served(tmp_path, attest) as one:
                workload = replace(one.node.workload.settings.workload, socket_mode=0o666)
                one.node.workload.settings = replace(one.node.workload.settings, workload=workload)
                async with one.node.workload.serving(Path(place) / "api.sock"):
                    assert await asyncio.to_thread(asked, place) == answer
                    if answer == ME:
                        assert "uid=65534 gid=65534" in (await one.records(TokenIssued))[-1].subject_proof


async def test_an_agent_that_is_taken_out_loses_its_stream(tmp_path):
    async with served(tmp_path) as one, calling(one.path) as (_, api):
        stream = api.FetchX509SVID(workload_pb2.X509SVIDRequest(), metadata=HEADER)
        await asyncio.wait_for(stream.read(), 20)
        rules = one.node.rules
        rules.configuration = replace(rules.configuration, agents={"other": rules.configuration.agents["other"]})
        assert await refused(stream.read()) == "PERMISSION_DENIED"


async def test_one_account_cannot_take_all(tmp_path):
    async with served(tmp_path) as one, contextlib.AsyncExitStack() as stack:
        apis = [(await stack.enter_async_context(calling(one.path)))[1] for _ in range(4)]
        held = []
        for api in apis[:3]:
            for _ in range(2):
                held.append(api.FetchJWTBundles(workload_pb2.JWTBundlesRequest(), metadata=HEADER))
                await asyncio.wait_for(held[-1].read(), 20)
        assert await refused(apis[0].FetchJWTBundles(workload_pb2.JWTBundlesRequest(), metadata=HEADER).read()) == "RESOURCE_EXHAUSTED"
        assert await refused(apis[3].FetchJWTBundles(workload_pb2.JWTBundlesRequest(), metadata=HEADER).read()) == "UNAVAILABLE"
        held[0].cancel()
        wanted = workload_pb2.JWTSVIDRequest(audience=["bank"])
        answers = [code for _ in range(6) if (code := await _code(apis[0].FetchJWTSVID(wanted, metadata=HEADER)))]
        assert answers == ["RESOURCE_EXHAUSTED"], "five a minute"
        one.clock.pass_by(61)
        assert not await _code(apis[0].FetchJWTSVID(wanted, metadata=HEADER))


async def _code(call) -> str:
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code().name
    return ""


async def test_peers_that_do_not_keep_to_the_protocol_are_cut_off(tmp_path):
    preface, settings, ping = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\0\0\0\4\0\0\0\0\0", b"\0\0\x08\6\0\0\0\0\0" + b"x" * 8
    overlong = preface + b"\xff" * 100_000
    async with served(tmp_path) as one:
        for rubbish in (b"GET / HTTP/1.1\r\n\r\n", b"\0" * 100, overlong, preface + settings + ping * 40_000):
            peer = socket.socket(socket.AF_UNIX)
            peer.settimeout(20)

            def flood(peer=peer, rubbish=rubbish) -> None:
                with peer, contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    peer.connect(str(one.path))
                    peer.sendall(rubbish)  # and never read
                    while peer.recv(65_536):
                        pass

            await asyncio.to_thread(flood)
        async with calling(one.path) as (_, api):
            assert (await api.FetchJWTSVID(workload_pb2.JWTSVIDRequest(audience=["a"]), metadata=HEADER)).svids


def test_an_account_that_sends_too_much_is_read_more_slowly():
    listener = _Listener(None, None)
    assert [listener.spend(1, 262_144, 0.0) for _ in range(4)] == [0, 0, 2, 4]
    assert listener.spend(2, 262_144, 0.0) == 0, "another account"
    assert listener.spend(1, 1, 4.5) == 0
    assert listener.spend(1, 131_072, 4.5) > 0
    for uid in range(3, 3_000):
        listener.spend(uid, 1, 100.0 + uid)
    assert len(listener._left) <= 1_001


async def test_a_flood_keeps_nobody_else_waiting(tmp_path):
    ping = b"\0\0\x08\6\0\0\0\0\0" + b"x" * 8
    async with served(tmp_path) as one:
        reader, writer = await asyncio.open_unix_connection(one.path)
        reading = asyncio.create_task(reader.read(-1))
        writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0" + ping * 60_000)
        async with calling(one.path) as (_, api):
            assert (await api.FetchJWTSVID(workload_pb2.JWTSVIDRequest(audience=["a"]), metadata=HEADER)).svids
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await reading


async def test_an_unused_connection_is_closed(tmp_path, monkeypatch):
    async with served(tmp_path) as one:
        limits = one.node.workload.settings.limits
        one.node.workload.settings = replace(one.node.workload.settings, limits=replace(limits, workload_idle_seconds=1))
        async with one.node.workload.serving(tmp_path / "second" / "api.sock"):
            reader, writer = await asyncio.open_unix_connection(tmp_path / "second" / "api.sock")
            async with asyncio.timeout(20):
                with contextlib.suppress(ConnectionResetError):
                    await reader.read(-1)
            writer.close()
            with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                await writer.wait_closed()


LEAVES = """
import os, socket, sys, time
connection = socket.socket(socket.AF_UNIX)
connection.connect(sys.argv[1])
if os.fork():
    sys.stdin.read()
    os._exit(0)
time.sleep(60)
"""


async def test_a_connection_is_worth_nothing_after_its_process(tmp_path):
    """The one way to another's pid: connect, leave the socket to a child, and let the pid be given to somebody else."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        child = subprocess.Popen([sys.executable, "-c", LEAVES, str(tmp_path / "s")], stdin=subprocess.PIPE, start_new_session=True)
        try:
            connection, _ = await asyncio.to_thread(listener.accept)
            peer, looking = Peer(connection), Processes()
            seen = await looking.look(peer, digest=False)
            assert (seen.pid, seen.uid, seen.path) == (child.pid, os.getuid(), os.readlink("/proc/self/exe"))
            child.stdin.close()
            child.wait(30)
            with pytest.raises(Unauthenticated):
                await looking.look(peer, digest=False)
            with pytest.raises(Unauthenticated):
                Peer(connection)
            peer.close()
            connection.close()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, 9)


async def test_an_older_kernel_has_no_pidfd_of_the_peer(tmp_path, monkeypatch):
    """ENOPROTOOPT, as Linux before 6.5 answers: the number here is of no option. The fall-back is real."""
    monkeypatch.setattr(processes, "_SO_PEERPIDFD", 9_999)
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        peer = Peer(ours)
        assert (await Processes().look(peer, digest=True)).pid == os.getpid()
        peer.close()
        with pytest.raises(Unauthenticated):
            await Processes().look(peer, digest=False)


async def test_the_executable_is_the_file_and_not_its_name(tmp_path):
    program = tmp_path / "program"
    shutil.copy("/bin/sleep", program)
    child = subprocess.Popen([program, "60"])
    try:
        looking = Processes()
        assert processes._path(child.pid) == str(program.resolve())
        digest = hashlib.sha256(program.read_bytes()).hexdigest()
        assert looking._digest(child.pid) == looking._digest(child.pid) == digest
        program.unlink()
        assert processes._path(child.pid) == ""
        program.write_bytes(Path("/bin/cat").read_bytes())
        assert processes._path(child.pid) == "", "another file stands there now"
        assert looking._digest(child.pid) == digest
        (tmp_path / "program (deleted)").write_bytes(b"")
        assert processes._path(child.pid) == ""
    finally:
        child.kill()
        child.wait()


async def test_only_our_own_child_and_what_it_starts_is_of_a_run(tmp_path):
    script = (
        "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import os, sys; print(os.getpid(), flush=True); sys.stdin.read()'])"
    )
    child, other = (subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(2))
    try:
        grandchild, stranger = [int(await asyncio.to_thread(one.stdout.readline)) for one in (child, other)]
        looking, run = Processes(), Run(agent="me", task="task_1")
        assert looking._run(grandchild) is None
        looking.started(grandchild, run)
        assert looking._run(grandchild) is None, "not a child of ours"
        looking.started(child.pid, run)
        assert [looking._run(pid) for pid in (child.pid, grandchild, stranger, other.pid, os.getpid(), 1, 2**22 + 1)] == [
            run,
            run,
            *[None] * 5,
        ]
    finally:
        for one in (child, other):
            one.stdin.close()
            one.wait(30)
            one.stdout.close()
    looking.started(2**22 + 1, run)


async def test_nothing_is_issued_beyond_the_task(tmp_path):
    async with served(tmp_path, "run = true") as one:
        task = await one.node.dispatcher.open(agent="me", task_type="work", inputs={}, on_behalf_of="ann", opened_by="ann")
        process = Process(uid=1, gid=1, pid=1, run=Run(agent="me", task=task.id))
        workloads = one.node.workload.workloads
        assert (await workloads.x509_svid(process))[1].expires_at == task.deadline
        assert (await workloads.jwt_svid(process, ["bank"]))[1].expires_at == task.deadline
        for wrong in (Run(agent="other", task=task.id), Run(agent="me", task="task_0"), None):
            with pytest.raises(Refusal):
                await workloads.identity(replace(process, run=wrong))
        for state in (TaskState.SUSPENDED, TaskState.ACTIVE, TaskState.COMPLETED):
            await one.node.tasks.move(task.id, state, by="ann")
            if state is TaskState.ACTIVE:
                assert (await workloads.identity(process)).text == ME
            else:
                with pytest.raises(Refusal):
                    await workloads.x509_svid(process)
        with pytest.raises(Refusal):  # ended between the look and the record
            await workloads._record(SpiffeId.parse(ME), "jwt-svid", "svid_1", task.deadline, process)
        assert [body.use for body in await one.records(TokenIssued)] == ["x509-svid", "jwt-svid"]
        receipt = await make_receipt(one.node.store, one.node.ledger, ("public",) * 4, task.id, one.clock())
        assert (receipt.svids_issued, receipt.tokens_issued, receipt.svids_expire_at) == (2, 0, task.deadline)


async def test_places_that_are_not_safe(tmp_path):
    async with served(tmp_path) as one:
        serving = one.node.workload.serving

        async def mistake(path: Path) -> str:
            with pytest.raises(Mistake) as caught:
                async with serving(path):
                    pass
            return caught.value.message

        assert "somebody listens there" in await mistake(one.path)
        (tmp_path / "file").write_text("x")
        assert "something else" in await mistake(tmp_path / "file")
        assert "bytes" in await mistake(tmp_path / ("x" * 120))
        for mode in (0o777, 0o1777, 0o770):
            (tmp_path / "open").mkdir(exist_ok=True)
            (tmp_path / "open").chmod(mode)
            assert "other accounts may write" in await mistake(tmp_path / "open" / "api.sock")
        (tmp_path / "open" / "inner").mkdir(mode=0o700)
        (tmp_path / "open").chmod(0o777)
        assert "other accounts may write" in await mistake(tmp_path / "open" / "inner" / "api.sock")
        stale = socket.socket(socket.AF_UNIX)
        stale.bind(str(tmp_path / "stale.sock"))
        stale.close()
        async with serving(tmp_path / "stale.sock"):
            assert await WorkloadApiClient(f"unix://{tmp_path / 'stale.sock'}").jwt_svid(["bank"])
        assert not (tmp_path / "stale.sock").exists()


async def test_remit_is_a_client_of_another_workload_api(tmp_path):
    async with served(tmp_path) as one:
        client = WorkloadApiClient(f"unix://{one.path}")
        bundle, own = json.loads(await client.bundle("one.test")), await one.node.workload.authority.bundle()
        assert bundle["keys"] == own["keys"]
        svid, authorities = await client.x509_svid()
        assert (svid.spiffe_id.text, svid.expires_at) == (ME, one.clock() + timedelta(minutes=5))
        assert [key["x5c"][0] for key in bundle["keys"] if key["use"] == "x509-svid"]
        assert certificates(authorities)
        assert (await client.jwt_svid(["bank"])).count(".") == 2
        with pytest.raises(Outage, match="has no bundle of"):
            await client.bundle("two.test")
    with pytest.raises(Outage, match="does not answer"):
        await client.bundle("one.test")
    for address in ("tcp://127.0.0.1:1", "unix:relative", "unix:///a?b", "/a"):
        with pytest.raises(Mistake):
            WorkloadApiClient(address)


FOREIGN = """
[server]
issuer = "https://two.test"
[trust]
domain = "two.test"
[trust.domains."one.test"]
workload_api = "{address}"
[agents.guest]
spiffe_id = "spiffe://one.test/agent/me"
"""


async def test_svids_prove_their_agent_at_home_and_in_a_domain_that_asks_our_workload_api(tmp_path):
    """With a SPIRE agent the other end is the same: bundles over the Workload API, SVIDs of its domain."""
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "remit.toml").write_text(FOREIGN.format(address=f"unix://{tmp_path}/state/api.sock"))
    async with served(tmp_path) as one, open_node(tmp_path / "two", clock=one.clock) as two:
        client = WorkloadApiClient(f"unix://{one.path}")
        certificate = PeerCertificate(chain=((await client.x509_svid())[0].chain,))
        for node, name in ((one.node, "me"), (two, "guest")):
            assert await node.identities.verify_svid(certificate) == (name, Workload(agent=SpiffeId.parse(ME), proof="x509-svid"))
            token = await client.jwt_svid([node.configuration.settings.issuer])
            assert (await node.identities.verify_svid(token))[0] == name
            with pytest.raises(Unauthenticated):
                await node.identities.verify_svid(await client.jwt_svid(["https://three.test"]))
            one.clock.pass_by(120)  # so many SVIDs a minute
            certificate = PeerCertificate(chain=((await client.x509_svid())[0].chain,))
        one.clock.pass_by(3_600)
        for node in (one.node, two):
            with pytest.raises(Unauthenticated):
                await node.identities.verify_svid(certificate)


@pytest.mark.parametrize("rubbish", [b"", b"HTTP/1.1 200 OK\r\n\r\n", b"\0\0\0\4\0\0\0\0\0" + b"\xff" * 64, None])
async def test_a_workload_api_that_answers_rubbish_or_not_at_all_is_an_outage(tmp_path, monkeypatch, rubbish):
    monkeypatch.setattr(workload_api, "_SECONDS", 1.0)

    async def answer(reader, writer):
        if rubbish is not None:
            writer.write(rubbish)
            writer.close()
        else:
            await reader.read(-1)
            writer.close()

    server = await asyncio.start_unix_server(answer, tmp_path / "s")
    with pytest.raises(Outage):
        await asyncio.wait_for(WorkloadApiClient(f"unix://{tmp_path / 's'}").bundle("one.test"), 20)
    server.close()


@pytest.mark.parametrize("data", [b"\x30", b"\x31\x00", b"\x30\x05abc", b"\x30\x89" + b"\xff" * 9, b"\x30\x82\xff", b"\x30\x00" * 1_001])
def test_certificates_that_cannot_be_taken_apart(data):
    with pytest.raises(Outage):
        certificates(data)
