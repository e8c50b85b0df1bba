"""What is a secret and what only looks like one; what a secret says of its time."""

from __future__ import annotations

import base64
import json
import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remit.logic.client_settings import BrokenSettings, leaves, lines, parse_settings, remarks, servers
from remit.logic.detectors import Detector, detected
from remit.logic.secret_values import ADDRESS, PASSWORD, RANDOM, database_address, dated, is_random, names_a_secret, secret_kind

DRAWN = "k3J9x2LmQ8pZr5TvW1yB"


def token(**claims: object) -> str:
    parts = [{"alg": "HS256"}, claims]
    head = ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts)
    return f"{head}.c2lnbmF0dXJlc2lnbmF0dXJl"


@pytest.mark.parametrize(
    ("text", "names", "kind"),
    [
        ("ghp_" + "aB3d" * 9, (), "GitHub Token"),
        ("github_pat_" + "aB3d" * 9, (), "GitHub token"),
        ("sk-ant-api03-" + "aB3d_" * 10, ("ANYTHING",), "Anthropic API key"),
        ("sk-proj-" + "aB3d" * 8, (), "OpenAI API key"),
        ("AKIAIOSFODNN7ABCDWQZ", (), "AWS Access Key"),
        ("Bearer " + token(iat=1), ("Authorization",), "JSON Web Token"),
        ("postgresql://app:hunter2@db/x", (), PASSWORD),
        ("psql postgresql://app:hunter2@db/x", (), PASSWORD),
        ("redis://:hunter2@cache:6379/0", (), PASSWORD),
        (f"https://mcp.example/x?api_key={DRAWN}", (), RANDOM),
        (DRAWN, ("SERVICE_TOKEN",), RANDOM),
        (f"Bearer {DRAWN}", ("Authorization",), RANDOM),
        ("8f14e45fceea167a5a36dedd4bea2543", ("apiKey",), RANDOM),
        ("550e8400-e29b-41d4-a716-446655440000", ("api_key",), RANDOM),
        ("tkqyur0jwmiixsw8apvz4nxuuz7xxici", ("API_KEY",), RANDOM),  # no letter of it stands alone between digits
        ("mh0cmkv7lqbnco95", ("API_KEY",), RANDOM),
        ("figd_aqx9vJupc94tnwlavyfErGPmpGXafq0fjzLczbtt", ("figma-api-key",), RANDOM),
        (f"https://mcp.example/api/mcp/s/{DRAWN}{DRAWN}/mcp", ("url", "zapier", "mcpServers"), ADDRESS),
        (f"https://mcp.example/api/mcp/s/{DRAWN}{DRAWN}/mcp", ("serverUrl",), ADDRESS),
    ],
)
def test_a_secret_is_told_by_its_format_or_by_chance_under_a_name(text, names, kind):
    assert secret_kind(text, names) == kind


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", ("TOKEN",)),
        ("${TOKEN}", ("TOKEN",)),
        ("$TOKEN", ("TOKEN",)),
        ("%TOKEN%", ("TOKEN",)),
        ("Bearer ${input:key}", ("Authorization",)),
        ("{{ secrets.KEY }}", ("KEY",)),
        ("{lease:orders.url}", ("DATABASE_URL",)),
        ("op://vault/item/field", ("TOKEN",)),
        ("your-api-key-here-1a2b3c4d", ("API_KEY",)),
        ("AKIAIOSFODNN7EXAMPLE", ("AWS_ACCESS_KEY_ID",)),
        ("ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", ("TOKEN",)),
        ("<token>", ("TOKEN",)),
        ("hunter2", ("PASSWORD",)),
        ("true", ("AUTH",)),
        ("us-east-1-production-cluster-01", ("CLUSTER_KEY",)),
        ("correct-horse-battery-staple-2024", ("PASSWORD",)),
        ("MyServiceAccountName2024", ("SECRET",)),
        ("/etc/keys/" + DRAWN, ("API_KEY",)),
        ("https://issuer.example/" + DRAWN, ("TOKEN_URL",)),
        (f"https://docs.example/d/{DRAWN}{DRAWN}/edit", ("DOCUMENT",)),
        ("https://raw.example/acme/x/8f14e45fceea167a5a36dedd4bea25438f14e45f/mcp", ("url", "x", "mcpServers")),
        ("https://mcp.example/550e8400-e29b-41d4-a716-446655440000/slack", ("url", "x", "mcpServers")),
        ("oauth2-client-v3-prod", ("CLIENT_SECRET",)),
        ("text-embedding-3-small", ("KEY",)),
        ("stabilityai/sdxl-turbo-1.0-fp16", ("KEY",)),
        (DRAWN, ("COMMIT_ID",)),
        (DRAWN, ("TOKEN_FILE",)),
        (DRAWN, ("PUBLIC_KEY",)),
        (DRAWN, ()),
        ("postgresql://app:${PASSWORD}@db/x", ("DATABASE_URL",)),
        ("postgresql://user:password@localhost/x", ("DATABASE_URL",)),
        ("postgresql://app@db/x", ("DATABASE_URL",)),
    ],
)
def test_a_name_alone_a_reference_and_a_made_up_value_are_no_secret(text, names):
    assert secret_kind(text, names) == ""


@given(st.text(max_size=300), st.lists(st.text(max_size=40), max_size=3))
def test_any_text_is_survived(text, names):
    secret_kind(text, tuple(names))
    dated(text)
    database_address(text)
    list(lines(text))
    for toml in (False, True):
        try:
            data = parse_settings(text, toml=toml)
        except BrokenSettings:
            continue
        assert all(isinstance(leaf.text, str) for leaf in (*leaves(data), *remarks(text, toml=toml)))
        list(servers(data))


def test_names_that_expect_a_secret():
    assert all(map(names_a_secret, [("API_KEY",), ("accessToken",), ("githubtoken",), ("X-Api-Key",), ("password",), ("auth",)]))
    assert not any(
        map(names_a_secret, [(), ("",), ("KEY_PATH",), ("tokenUrl",), ("AUTH_DOMAIN",), ("monkey",), ("publicKey",), ("author",)])
    )
    assert not is_random("a" * 100)


def test_what_a_secret_says_of_its_time():
    told = dated("Bearer " + token(iat=1_700_000_000, exp=1_800_000_000))
    assert (told.issued_at, told.expires_at) == (datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC), datetime(2027, 1, 15, 8, 0, tzinfo=UTC))
    signed = dated("https://a.blob.core/x?st=2026-01-02T00:00:00Z&se=2026-02-03T00:00:00Z&sig=" + "a" * 44)
    assert (signed.issued_at, signed.expires_at) == (datetime(2026, 1, 2, tzinfo=UTC), datetime(2026, 2, 3, tzinfo=UTC))
    assert dated("018bcfe5-6800-7000-8000-000000000000").issued_at == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    for nothing in ("550e8400-e29b-41d4-a716-446655440000", token(iat="soon", exp=True), token(exp=10**300), "eyJ.eyJ.", "sig=1&st=x"):
        assert dated(nothing).issued_at is None
        assert dated(nothing).expires_at is None


def test_hostile_texts_do_not_hold_it_up():
    """Patterns of libraries cost the square of some texts; the bound is against hanging, these took a minute and more.

    It is of this thread's processor time: what else a machine does counts for nothing.
    """
    began = time.thread_time()
    for text in ("//" * 100_000, "sk-" * 80_000, "://a:" * 50_000, "/*" * 100_000, '"\\"' * 50_000, "a=b" + " " * 200_000 + "x"):
        secret_kind(text, ("key",))
        list(lines(text))
        detected(text[:262_144], [Detector.CREDENTIALS])
    assert time.thread_time() - began < 40


def test_settings_as_clients_write_them():
    text = '{ // said\n "servers": {"a": {"command": "x", /* no */ "args": ["--token", "T", "-e", "K=V", "--header", "X-Key: W"],},},\n}'
    data = parse_settings(text, toml=False)
    assert [(leaf.names[0], leaf.text) for leaf in leaves(data) if "/args/" in leaf.where] == [
        ("args", "--token"),
        ("token", "T"),
        ("args", "-e"),
        ("K", "V"),
        ("args", "--header"),
        ("X-Key", "W"),
    ]
    twice = parse_settings('{"env": {"K": "one", "K": "two"}}', toml=False)
    assert [(leaf.where, leaf.text) for leaf in leaves(twice)] == [("/env/K", "one"), ("/env/K", "two")]
    told = [(leaf.where, leaf.names, leaf.text) for leaf in lines("# K=no\nexport K='v' # x\n\nname: \"w\"\nA=b # c\nalone")]
    assert told[0] == ("line 1", ("K",), "no")  # what was commented out stands there all the same
    assert told[1:] == [("line 2", ("K",), "v"), ("line 4", ("name",), "w"), ("line 5", ("A",), "b"), ("line 6", (), "alone")]
    (npm,) = lines("//registry.example/npm/:_authToken=T # x")
    assert (npm.names, npm.text) == (("_authToken",), "T")


def test_comments_of_parsed_settings_are_read():
    text = '{"a": "// no",\n // "TOKEN": "T",\n /* KEY=K\n  * alone */ "b": 1}'
    told = [(leaf.where, leaf.names, leaf.text) for leaf in remarks(text, toml=False)]
    assert told == [("line 2", ("TOKEN",), "T"), ("line 3", ("KEY",), "K"), ("line 4", (), "alone")]
    assert [(leaf.where, leaf.text) for leaf in remarks('a = "# no"\n # KEY = "K"', toml=True)] == [("line 2", "K")]


@pytest.mark.parametrize(
    ("data", "names"),
    [
        ({"mcpServers": {"a": {"command": "x"}, "b": {"url": "https://x"}, "c": {}, "d": 5}}, ["a", "b"]),
        ({"projects": {"/p": {"mcpServers": {"a": {"command": "x"}}}}}, ["a"]),
        ({"mcp": {"servers": {"a": {"command": "x"}}}}, ["a"]),
        ({"context_servers": {"a": {"command": {"path": "x", "args": ["y"]}}}}, ["a"]),
        ({"mcp_servers": {"a": {"command": "x"}}}, ["a"]),
        ({"mcp": {"a": {"type": "local", "command": ["x", "y"], "environment": {"K": "v"}}}}, ["a"]),
        ({"mcpServers": {"a": {"serverUrl": "https://x"}}}, ["a"]),
        ({"mcpServers": []}, []),
        ([{"mcpServers": {}}], []),
    ],
)
def test_servers_are_found_where_each_client_keeps_them(data, names):
    assert [entry.name for entry in servers(data)] == names
