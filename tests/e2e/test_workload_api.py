"""The stock ``spiffe`` client gets its SVIDs from remit over the real socket, as the kernel says who it is."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import queue
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store
from spiffe import WorkloadApiClient
from spiffe.spiffe_id.spiffe_id import TrustDomain
from spiffe.svid.jwt_svid import JwtSvid

from tests.e2e.inside import Inside
from tests.e2e.test_serve import http

AGENT = "spiffe://remit.local/agent/payer"
CLIENT = """
import os, pathlib, subprocess, sys
from spiffe import WorkloadApiClient
from spiffe.workloadapi.errors import WorkloadApiError
try:
    with WorkloadApiClient() as client:
        print(client.fetch_x509_svid(timeout=20).spiffe_id)
        token = client.fetch_jwt_svid(audience={"bank"}, timeout=20)
        print(token.spiffe_id, client.validate_jwt_svid(token.token, "bank", timeout=20).spiffe_id)
        print(len(client.fetch_x509_bundles(timeout=20).bundles), len(client.fetch_jwt_bundles(timeout=20).bundles))
except WorkloadApiError as error:
    print("refused", "PERMISSION_DENIED" in str(error))
"""


def configure(folder, attest: str) -> Path:
    """Put the socket and what the agent's process must be into its folder."""
    text = folder.path / "remit.toml"
    text.write_text(f'{text.read_text()}\n[trust]\nsvid_ttl = "5s"\n[spiffe]\nsocket = "state/api.sock"\n[agents.payer.attest]\n{attest}\n')
    return folder.path / "state" / "api.sock"


@contextlib.contextmanager
def serving(folder):
    """A real ``remit serve`` on the folder, ready."""
    assert folder.remit("pin").returncode == 0
    process = folder.start("serve")
    for _ in range(1_200):
        with contextlib.suppress(OSError):
            if http(folder, "GET", "/readyz")[0] == 200:
                break
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    yield
    process.terminate()
    process.wait(30)


@pytest.fixture
def folder(folder, monkeypatch):
    monkeypatch.setenv("BANK_SECRET", "hunter2")
    return Inside(folder.path, folder.port, folder.started)


def test_a_process_gets_its_svids_and_verifiers_its_bundle(folder):
    socket = configure(folder, f"uid = {os.getuid()}\npath = {json.dumps(os.readlink('/proc/self/exe'))}")
    pushed: queue.Queue = queue.Queue()
    with serving(folder), WorkloadApiClient(f"unix://{socket}", default_timeout=30) as client:
        assert oct(socket.stat().st_mode & 0o777) == "0o600"
        watch = client.stream_x509_contexts(pushed.put, pushed.put)
        bundle = json.loads(http(folder, "GET", "/spiffe/bundle")[2])
        jwt = client.fetch_jwt_svid(audience={"bank", "mint"})
        assert client.validate_jwt_svid(jwt.token, "mint").spiffe_id == jwt.spiffe_id
        jwt_bundles = client.fetch_jwt_bundles()
        first, second = pushed.get(timeout=30), pushed.get(timeout=30)
        watch.cancel()
    for context in (first, second):
        svid = context.default_svid
        assert str(svid.spiffe_id) == AGENT
        verify(svid, bundle)
    assert first.default_svid.leaf.serial_number != second.default_svid.leaf.serial_number
    assert second.default_svid.leaf.not_valid_before_utc < first.default_svid.leaf.not_valid_after_utc, "pushed while the first one lives"
    keys = jwt_bundles.get_bundle_for_trust_domain(TrustDomain("spiffe://remit.local"))
    assert str(JwtSvid.parse_and_validate(jwt.token, keys, {"bank"}).spiffe_id) == AGENT
    assert not socket.exists()
    issued = [(one["body"]["use"], one["body"]["agent"]) for one in folder.ledger() if one["kind"] == "token.issued"]
    assert sorted(set(issued)) == [("jwt-svid", AGENT), ("x509-svid", AGENT)]
    proof = next(one["body"]["subject_proof"] for one in folder.ledger() if one["kind"] == "token.issued")
    assert f"pid={os.getpid()} uid={os.getuid()}" in proof


def verify(svid, bundle) -> None:
    """As a verifier does that knows only the bundle, with another library's eyes (RFC 5280)."""
    keys = [key for key in bundle["keys"] if key["use"] == "x509-svid"]
    assert keys
    assert all("kid" not in key and len(key["x5c"]) == 1 for key in keys)
    roots = [x509.load_der_x509_certificate(base64.b64decode(key["x5c"][0])) for key in keys]
    verified = PolicyBuilder().store(Store(roots)).build_client_verifier().verify(svid.leaf, [])
    assert [name.value for name in verified.subjects] == [AGENT]


def test_remit_run_vouches_for_what_it_started_and_for_nobody_else(folder, tmp_path):
    configure(folder, "run = true")
    (tmp_path / "client.py").write_text(CLIENT)
    (tmp_path / "parent.py").write_text(
        "import os, subprocess, sys, time, pathlib\n"
        "subprocess.run([sys.executable, 'client.py'])\n"
        "sys.stdout.flush()\n"
        "pathlib.Path('address').write_text(os.environ['SPIFFE_ENDPOINT_SOCKET'])\n"
        "while not pathlib.Path('done').exists(): time.sleep(0.05)\n"
    )
    run = folder.start("run", "pay", "-i", "who=bob", "--", sys.executable, "parent.py")
    address = tmp_path / "address"
    while not address.exists():
        assert run.poll() is None, run.communicate()
        time.sleep(0.05)
    stranger = subprocess.run(
        [sys.executable, str(tmp_path / "client.py")],
        env={**os.environ, "SPIFFE_ENDPOINT_SOCKET": address.read_text()},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    (tmp_path / "done").touch()
    out, err = run.communicate(timeout=60)
    assert run.returncode == 0, err
    assert out.split() == [AGENT, AGENT, AGENT, "1", "1"], err
    assert stranger.stdout.split() == ["refused", "True"], stranger.stderr
    assert not Path(address.read_text().removeprefix("unix://")).exists()
    records = folder.ledger()
    task = next(one["task"] for one in records if one["kind"] == "task.opened")
    proofs = [one["body"]["subject_proof"] for one in records if one["kind"] == "token.issued"]
    assert sum(f"run=payer task={task}" in proof for proof in proofs) == 2
    assert [one["body"]["use"] for one in records if one["task"] == task and one["kind"] == "token.issued"].count("jwt-svid") == 1
    assert "2 issued to its processes; they prove the agent until" in err
    assert [one["body"]["why"] for one in records if one["kind"] == "token.refused"] == ["the process is no agent's"]


def test_doctor_tells_where_the_socket_stands_and_for_whom(folder):
    (folder.path / "remit.toml").write_text("[agents.payer]\n")  # no server to start
    (folder.path / "tasks" / "pay.toml").unlink()
    socket = configure(folder, f"uid = {os.getuid()}")
    assert f"workload api: {socket}, for processes of: payer" in folder.remit("doctor").stdout
    socket.parent.chmod(0o777)
    done = folder.remit("doctor")
    assert done.returncode == 1
    assert "other accounts may write" in done.stdout
