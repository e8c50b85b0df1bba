"""Whom we trust: a mistake names file, line and key; nothing is believed by default, and nothing is ambiguous."""

from __future__ import annotations

import pytest

from remit.errors import Mistake
from remit.services.configuration import load_configuration

ISSUER = """
[trust.issuers.ci]
issuer = "https://ci.example"
[[trust.issuers.ci.identity]]
required = { owner = "acme" }
spiffe_id = "spiffe://remit.local/ci/{repository:2}"
"""
OTHER = """
[trust.issuers.other]
issuer = "https://other.example"
[[trust.issuers.other.identity]]
required = { owner = "acme" }
spiffe_id = "spiffe://remit.local/other/{repository:2}"
"""
DOMAIN = """
[trust.domains."partner.example"]
bundle_url = "https://partner.example/spiffe/bundle"
[agents.theirs]
spiffe_id = "spiffe://partner.example/agent/x"
"""


def load(tmp_path, text):
    (tmp_path / "remit.toml").write_text(text)
    return load_configuration(tmp_path)


def test_what_is_read(tmp_path):
    (tmp_path / "ca.pem").write_text("")
    found = load(tmp_path, ISSUER + DOMAIN + OTHER)
    issuer = found.trust.issuers["https://ci.example"]
    assert (issuer.name, issuer.audience, sorted(issuer.algorithms)) == ("ci", "http://127.0.0.1:7411", ["ES256", "RS256"])
    assert issuer.endpoint.networks == ()
    assert found.trust.domains["partner.example"].bundle_url == "https://partner.example/spiffe/bundle"
    assert found.agents["theirs"].spiffe_id.trust_domain == "partner.example"
    assert load(tmp_path, "").trust.issuers == {}


def test_two_branches_of_one_issuer_may_be_the_same_workload_or_another(tmp_path):
    more = """
[[trust.issuers.ci.identity]]
required = { owner = ["friend", "other"], ref = "main" }
spiffe_id = "spiffe://remit.local/ci/{repository:2}"
[[trust.issuers.ci.identity]]
required = { owner = true }
spiffe_id = "spiffe://remit.local/k8s/{/kubernetes.io/namespace}"
"""
    assert len(load(tmp_path, ISSUER + more).trust.issuers["https://ci.example"].identities) == 3


WRONG = {
    "no issuer": (ISSUER.replace('issuer = "https://ci.example"', ""), "remit.toml:2: trust.issuers.ci", "is no address"),
    "plain http": (ISSUER.replace("https://ci", "http://ci"), "remit.toml:3: trust.issuers.ci.issuer", "not https"),
    "http to loopback that nobody allowed": (ISSUER.replace("https://ci.example", "http://127.0.0.1:80"), ".issuer", "not https"),
    "a user in the address": (ISSUER.replace("//ci.", "//me@ci."), ".issuer", "is no address"),
    "a query": (ISSUER.replace("ci.example", "ci.example/?x"), ".issuer", "is no address"),
    "a look-alike address": (ISSUER.replace("//ci.", "//cі."), ".issuer", "is no address"),
    "a file": (ISSUER.replace("https://ci.example", "file:///etc/passwd"), ".issuer", "is no address"),
    "ourselves": (ISSUER + '[server]\nissuer = "https://ci.example"\n', ".issuer", "our own issuer"),
    "the same issuer twice": (ISSUER + OTHER.replace("other.example", "ci.example"), "trust.issuers.other.issuer", "has this URL too"),
    "none": (ISSUER.replace("[[", 'algorithms = ["none"]\n[['), "remit.toml:4: trust.issuers.ci.algorithms", "'none' is not taken"),
    "HMAC": (ISSUER.replace("[[", 'algorithms = ["HS256"]\n[['), ".algorithms", "is not taken"),
    "no algorithms": (ISSUER.replace("[[", "algorithms = []\n[["), ".algorithms", "no algorithm"),
    "an empty audience": (ISSUER.replace("[[", 'audience = ""\n[['), ".audience", "empty"),
    "no mapping": (ISSUER.partition("[[")[0], "trust.issuers.ci", "has no mapping"),
    "nothing required": (ISSUER.replace('{ owner = "acme" }', "{}"), "required", "would take every token"),
    "a required list": (ISSUER.replace('"acme"', "[]"), "required.owner", "cannot be required"),
    "a required table": (ISSUER.replace('"acme"', "{ a = 1 }"), "required.owner", "cannot be required"),
    "a required fraction": (ISSUER.replace('"acme"', "1.5"), "required.owner", "cannot be required"),
    "a claim in half a segment": (ISSUER.replace("{repository:2}", "x-{repository}"), "spiffe_id", "no template"),
    "two claims in a segment": (ISSUER.replace("{repository:2}", "{a}{b}"), "spiffe_id", "no template"),
    "a claim as trust domain": (ISSUER.replace("remit.local/ci", "{owner}"), "spiffe_id", "no template"),
    "traversal in a template": (ISSUER.replace("ci/{", "ci/../{"), "spiffe_id", "no template"),
    "another domain": (ISSUER.replace("remit.local/ci", "partner.example/ci"), "spiffe_id", "not our trust domain"),
    "a token with two identities": (
        ISSUER + '[[trust.issuers.ci.identity]]\nrequired = { ref = "main" }\nspiffe_id = "spiffe://remit.local/x/{repository:2}"\n',
        "remit.toml:8: trust.issuers.ci.identity.1.required",
        "two identities",
    ),
    "two issuers in one space": (
        ISSUER + OTHER.replace("local/other/{repository:2}", "local/{a}/{b}/web"),
        "trust.issuers.other.identity.0.spiffe_id",
        "issuer ci can make the same",
    ),
    "two meanings of one ID": (
        ISSUER + '[[trust.issuers.ci.identity]]\nrequired = { owner = "b" }\nspiffe_id = "spiffe://remit.local/ci/{x}/{y}"\n',
        "trust.issuers.ci.identity.1.spiffe_id",
        "an earlier mapping can make the same",
    ),
    "an agent by the way": (
        ISSUER.replace("ci/{repository:2}", "agent/{repository}") + "[agents.writer]\n",
        "remit.toml:7: agents.writer",
        "tokens of issuer ci can name agent writer",
    ),
    "no network": (ISSUER.replace("[[", 'networks = ["10.0.0.1/8"]\n[['), ".networks", "is no network"),
    "unknown words": (ISSUER.replace("[[", "jwks = 1\n[["), "trust.issuers.ci.jwks", "did you mean 'jwks_uri'"),
    "no bundle": (DOMAIN.replace("bundle_url = ", "#"), 'trust.domains."partner.example"', "either bundle_file or bundle_url"),
    "no socket": (
        DOMAIN.replace("bundle_url = ", "workload_api = "),
        'trust.domains."partner.example".workload_api',
        "is no Unix socket",
    ),
    "two bundles": (DOMAIN.replace("[agents", 'bundle_file = "x"\n[agents'), 'trust.domains."partner.example"', "either bundle_file"),
    "a bundle over http": (
        DOMAIN.replace("https://partner.example", "http://127.0.0.1:1").replace("[agents", 'networks = ["127.0.0.1/32"]\n[agents'),
        ".bundle_url",
        "over https",
    ),
    "a domain in capitals": (DOMAIN.replace("partner.example", "Partner.example"), "trust.domains", "not a trust domain"),
    "our own domain": (DOMAIN.replace('"partner.example"', '"remit.local"'), 'trust.domains."remit.local"', "our own trust domain"),
    "an agent of nobody's": (
        '[agents.x]\nspiffe_id = "spiffe://third.example/x"\n',
        "agents.x.spiffe_id",
        "not of this trust domain, nor of a trusted one",
    ),
    "half of tls": ('[server.tls]\ncertificate = "x"\n', "server.tls", "certificate and key"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_mistake_names_its_place_and_starts_nothing(tmp_path, name):
    text, where, words = WRONG[name]
    with pytest.raises(Mistake) as caught:
        load(tmp_path, text)
    assert where in str(caught.value)
    assert words in str(caught.value)
