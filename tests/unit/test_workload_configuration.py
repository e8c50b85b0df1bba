"""``[spiffe]`` and ``[agents.NAME.attest]``: what is wrong is told with its place, and the messages are those of the standard."""

from __future__ import annotations

import pytest
from google.protobuf import descriptor_pb2
from spiffe._proto import workload_pb2

from remit.drivers.workload_messages import MESSAGES, METHODS
from remit.model.attestation import ProcessRule
from remit.services.configuration import load_configuration
from remit.services.reading import Mistakes


def load(folder, text: str):
    (folder / "remit.toml").write_text(text)
    return load_configuration(folder)


def test_what_is_given_is_read(tmp_path):
    digest = "ab" * 32
    text = f"""
[trust]
svid_ttl = "2m"
[spiffe]
socket = "state/api.sock"
socket_mode = "0666"
authority_ttl = "24m"
[agents.a]
[agents.b.attest]
uid = 0
gid = 7
path = "/usr/bin/agent"
sha256 = "{digest}"
run = true
"""
    found = load(tmp_path, text)
    spiffe = found.settings.workload
    assert (spiffe.socket, spiffe.socket_mode, spiffe.authority_ttl.total_seconds()) == (tmp_path / "state/api.sock", 0o666, 1_440)
    assert found.agents["a"].attest == ProcessRule()
    assert found.agents["b"].attest == ProcessRule(uid=0, gid=7, path="/usr/bin/agent", sha256=digest, run=True)
    assert load(tmp_path, "").settings.workload.socket is None


ATTEST = "[agents.a.attest]\n"


@pytest.mark.parametrize(
    ("text", "key", "words"),
    [
        (f'{ATTEST}path = "/x"', "agents.a.attest", "nothing of who runs"),
        (f'{ATTEST}sha256 = "{"a" * 64}"', "agents.a.attest", "nothing of who runs"),
        (f"{ATTEST}run = false", "agents.a.attest", "nothing of who runs"),
        (f'{ATTEST}uid = "root"', "agents.a.attest.uid", "whole number"),
        (f"{ATTEST}uid = true", "agents.a.attest.uid", "whole number"),
        (f"{ATTEST}uid = -1", "agents.a.attest.uid", "number of an account"),
        (f"{ATTEST}gid = 4294967295", "agents.a.attest.gid", "number of an account"),
        (f'{ATTEST}uid = 1\npath = "agent"', "agents.a.attest.path", "whole path"),
        (f'{ATTEST}uid = 1\npath = "/usr/../bin/x"', "agents.a.attest.path", "whole path"),
        (f'{ATTEST}uid = 1\npath = "/usr//bin/x"', "agents.a.attest.path", "whole path"),
        (f'{ATTEST}uid = 1\nsha256 = "{"A" * 64}"', "agents.a.attest.sha256", "no digest"),
        (f"{ATTEST}uid = 1\npid = 7", "agents.a.attest.pid", "not known"),
        (f"{ATTEST}uid = 1\n[agents.b.attest]\nuid = 1", "agents.b.attest", "both a and b"),
        (f"{ATTEST}uid = 1\n[agents.b.attest]\ngid = 1", "agents.b.attest", "both a and b"),
        ('[spiffe]\nsocket_mode = "0777"', "spiffe.socket_mode", "0777"),
        ('[spiffe]\nauthority_ttl = "10m"', "spiffe.authority_ttl", "too short"),
        ("[spiffe]\nsockets = 1", "spiffe.sockets", "not known"),
    ],
)
def test_mistakes_are_told_with_their_place(tmp_path, text, key, words):
    with pytest.raises(Mistakes) as caught:
        load(tmp_path, text)
    assert any(one.place.key == key and words in str(one) for one in caught.value.found), str(caught.value)


def test_different_agents_of_one_account_are_told_apart_by_their_program(tmp_path):
    found = load(tmp_path, f'{ATTEST}uid = 1\npath = "/a"\n[agents.b.attest]\nuid = 1\npath = "/b"\n[agents.c.attest]\nuid = 2')
    assert len(found.agents) == 3


def test_two_agents_of_remit_run_are_told_apart_by_their_run(tmp_path):
    agents = load(tmp_path, f"{ATTEST}run = true\n[agents.b.attest]\nrun = true\n[agents.c.attest]\nuid = 1").agents
    assert len(agents) == 3


def test_the_messages_are_those_of_the_standard():
    """Field by field against what protoc made of the standard's file, in the stock client."""
    theirs = descriptor_pb2.FileDescriptorProto()
    workload_pb2.DESCRIPTOR.CopyToProto(theirs)
    for message in theirs.message_type:
        ours = descriptor_pb2.DescriptorProto()
        MESSAGES[message.name].DESCRIPTOR.CopyToProto(ours)
        for one in (message, ours):
            for field in [*one.field, *(field for nested in one.nested_type for field in nested.field)]:
                field.ClearField("json_name")
        assert ours == message
    service = theirs.service[0]
    found = {one.name: (one.input_type[1:], one.output_type[1:], one.server_streaming) for one in service.method}
    assert (service.name, found) == ("SpiffeWorkloadAPI", METHODS)
