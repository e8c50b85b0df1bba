"""Names at the joint endpoint: no two things share one, each leads back to what it names, and all of them fit."""

from __future__ import annotations

import re

from hypothesis import assume, example, given
from hypothesis import strategies as st

from remit.logic.joint_names import is_cut, joint_name, looked_up, plain_parts, told_names, unambiguous

ODD_SERVERS, ODD_TOOLS = ["a", "a_", "a__b", "a-b", "bank", "bank_", "a_" * 32], ["_b", "b", "__b", "b__c", "b/c", "", "\ud800"]
SERVERS = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,63}", fullmatch=True) | st.sampled_from(ODD_SERVERS)
TOOLS = st.text(max_size=130) | st.from_regex(r"[A-Za-z0-9_.-]{1,128}", fullmatch=True) | st.sampled_from(ODD_TOOLS)
TAKEN = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")


@given(SERVERS, TOOLS)
@example("a", "_b")
@example("x" * 64, "y" * 128)
@example("bank", "send_money--0123456789abcdef")
def test_a_name_fits_and_leads_back(server: str, tool: str) -> None:
    name = joint_name(server, tool)
    assert TAKEN.match(name)
    assert name == joint_name(server, tool)
    if is_cut(name):
        assert plain_parts(name) is None  # never read back by its letters
        assert looked_up(name, [("other", tool), (server, tool), (server, tool + "x")]) == (server, tool)
        assert looked_up(name, [("other", tool)]) is None
    else:
        assert plain_parts(name) == (server, tool)
        assert name == f"{server}__{tool}"


@given(st.lists(st.tuples(SERVERS, TOOLS), min_size=2, max_size=2, unique=True))
@example([("a", "_b"), ("a_", "b")])
@example([("a", "b__c"), ("a__b", "c")])
@example([("bank", "a.b"), ("bank", "a/b")])
@example([("bank", "x" * 100), ("bank", "x" * 99 + "y")])
@example([("bank", "send"), ("bank_", "send")])
def test_no_two_things_share_a_name(pair: list[tuple[str, str]]) -> None:
    one, other = pair
    assert joint_name(*one) != joint_name(*other)
    assert dict(unambiguous(pair)) == {one: joint_name(*one), other: joint_name(*other)}


@given(SERVERS, TOOLS)
def test_a_cut_name_cannot_be_had_by_asking_for_it(server: str, tool: str) -> None:
    """A server that gives its own tool the name which another of its tools was cut to does not get that one's calls."""
    name = joint_name(server, tool)
    assume(is_cut(name))
    twin = name.partition("__")[2]
    assert joint_name(server, twin) != name
    assert joint_name(name.partition("__")[0], twin) != name


@given(st.text(max_size=200))
def test_what_is_read_back_is_what_is_called_so(name: str) -> None:
    parts = plain_parts(name)
    assert parts is None or joint_name(*parts) == name


def test_a_hostile_server_names_nothing_of_another() -> None:
    assert joint_name("evil", "bank__send_money") == "evil__bank__send_money"
    assert plain_parts("evil__bank__send_money") == ("evil", "bank__send_money")
    assert plain_parts("bank__send_money") == ("bank", "send_money")


def test_words_tell_what_can_be_called() -> None:
    known = [("bank", "send"), ("bank", "send_money"), ("crm", "a.b")]
    told = told_names("Refused: bank/send_money needs crm/a.b. Nothing was done.", known)
    assert told == f"Here bank/send_money is called bank__send_money; crm/a.b is called {joint_name('crm', 'a.b')}."
    assert told_names("Refused: xbank/send and bank/send/x.", known) == ""
