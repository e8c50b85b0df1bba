"""``[signals]`` of remit.toml: what is wrong is said with its place, and nothing is believed by default."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from remit.model.signal import CAEP, Concerns, Consequence
from remit.services.configuration import load_configuration
from remit.services.reading import Mistakes

SECRET = "a-secret-of-tests-only"
PUSH = '[signals.transmitters.idp]\nissuer = "https://idp.example"\npush_secret = "${PUSH}"\n'
SIEM = '[signals.receivers.siem]\naudience = "https://siem.example"\nsecret = "${SIEM}"\n'
POLL = '[signals.transmitters.idp]\nissuer = "https://idp.example"\n'


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.setenv("PUSH", SECRET)
    monkeypatch.setenv("SIEM", "another-" + SECRET)
    monkeypatch.setenv("SHORT", "short")


def read(tmp_path, text):
    (tmp_path / "remit.toml").write_text(text)
    return load_configuration(tmp_path).signals


def test_nothing_is_believed_and_nobody_told_by_default(tmp_path):
    rules = read(tmp_path, "")
    assert (rules.transmitters, rules.receivers) == ({}, {})


def test_what_is_stated(tmp_path):
    more = """
events = { "session-revoked" = "suspend", "https://example.com/x" = "revoke" }
concerns = ["person"]
age_max = "1h"
algorithms = ["ES256"]
"""
    rules = read(tmp_path, PUSH + more + SIEM + 'push = ["https://siem.example/x"]\nevents = ["session-revoked"]\n')
    rule, receiver = rules.transmitters["idp"], rules.receivers["siem"]
    assert rule.events == {f"{CAEP}session-revoked": Consequence.SUSPEND, "https://example.com/x": Consequence.REVOKE}
    assert (rule.concerns, rule.age_max, rule.algorithms) == ({Concerns.PERSON}, timedelta(hours=1), ("ES256",))
    assert (rule.audience, rule.private) == ("http://127.0.0.1:7411", False)
    assert (receiver.push, receiver.events) == (("https://siem.example/x",), (f"{CAEP}session-revoked",))
    assert SECRET not in repr(rules)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (PUSH.replace("${PUSH}", SECRET), "push_secret"),
        (PUSH.replace("${PUSH}", "${SHORT}"), "push_secret"),
        (PUSH.replace("${PUSH}", "${MISSING}"), "push_secret"),
        (POLL, "idp"),
        (POLL + 'poll = "https://idp.example/poll"\n', "poll"),
        (POLL + 'poll = "http://idp.example/poll"\npoll_secret = "${PUSH}"\n', "poll"),
        (PUSH.replace("https://idp", "http://idp"), "issuer"),
        (PUSH.replace("issuer", "issuers"), "issuer"),
        (PUSH + 'jwks_uri = "ftp://idp.example"\n', "jwks_uri"),
        (PUSH + 'jwks_file = "nowhere.json"\n', "jwks_file"),
        (PUSH + 'jwks_file = "keys.json"\njwks_uri = "https://idp.example/keys"\n', "jwks_uri"),
        (PUSH + 'algorithms = ["none"]\n', "algorithms"),
        (PUSH + 'algorithms = ["HS256"]\n', "algorithms"),
        (PUSH + "algorithms = []\n", "algorithms"),
        (PUSH + 'concerns = ["everybody"]\n', "concerns"),
        (PUSH + 'persons = ["{name}"]\n', "persons"),
        (PUSH + 'persons = ["everybody"]\n', "persons"),
        (PUSH + 'events = { "session-revokd" = "revoke" }\n', "events"),
        (PUSH + 'events = { "session-revoked" = "allow" }\n', "events"),
        (PUSH + 'age_max = "9000h"\n', "age_max"),
        (PUSH + "unknown = 1\n", "unknown"),
        (PUSH.replace("idp]", '"I D P"]'), "I D P"),
        (SIEM.replace("secret", "secrets"), "siem"),
        (SIEM.replace("audience", "audiences"), "audience"),
        (SIEM + 'push = ["http://siem.example"]\n', "push"),
        (SIEM + 'push = ["https://user:pass@siem.example"]\n', "push"),
        (SIEM + 'events = ["credential-change"]\n', "events"),
        (SIEM + SIEM.replace("siem]", "twin]"), "receivers"),
        ('[signals]\nlifecycle = "moved"\n', "lifecycle"),
        ("[signals]\ntransmitter = 1\n", "transmitter"),
    ],
)
def test_mistakes_have_a_place_and_show_no_secret(tmp_path, text, key):
    (tmp_path / "keys.json").write_text(json.dumps({"keys": [{"kty": "RSA", "n": "AQAB", "e": "AQAB"}]}))
    with pytest.raises(Mistakes) as found:
        read(tmp_path, text)
    assert any(mistake.place and key in mistake.place.key for mistake in found.value.found), str(found.value)
    assert all(mistake.place and mistake.place.line for mistake in found.value.found)
    assert SECRET not in str(found.value)
