"""``[egress.NAME]``: every mistake of it says where it stands and what is allowed."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest

from remit.model.egress import Content
from remit.services.configuration import load_configuration
from remit.services.reading import Mistakes
from remit.services.rules import make_rulebook

GOOD = """
[egress.crm]
url = "https://crm.example/api/"
effect = "read"
[egress.crm.headers]
X-Key = "k"
[egress.crm.operations.get]
request = "GET /customers/{id}"
path.id.type = "integer"
query.q.type = "string"
[egress.crm.operations.pay]
request = "POST /payments/"
body = { type = "object", properties = { to = {}, lines = { items = { properties.sum = {} } } } }
"""
PAY = "[egress.crm.operations.pay]"
WRONG = [
    ('url = "https://crm.example/api/"', "", "is no base"),
    ("https://crm.example/api/", "ftp://crm.example", "is no base"),
    ("https://crm.example/api/", "https://me:secret@crm.example", "is no base"),
    ("https://crm.example/api/", "https://crm.example/a/../b", "is no base"),
    ("https://crm.example/api/", "https://crm.example/a?b=c", "is no base"),
    ("https://crm.example/api/", "https://crm.example:99999/", "is no base"),
    ("https://crm.example/api/", "http://crm.example/", "url is not https"),
    ("https://crm.example/api/", "http://1.1.1.1/", "url is not https"),
    ("[egress.crm.operations.get]", "[egress.crm.operations.undeclared]", "cannot be the name of an operation"),
    ("GET /customers/{id}", "get /customers/{id}", "a method, one space"),
    ("GET /customers/{id}", "TRACE /customers/{id}", "a method, one space"),
    ("GET /customers/{id}", "GET customers/{id}", "a method, one space"),
    ("GET /customers/{id}", "GET /customers/x{id}", "a method, one space"),
    ("GET /customers/{id}", "GET /customers/%2e/{id}", "is refused"),
    ("GET /customers/{id}", "GET /customers/../{id}", "a segment of dots"),
    ("GET /customers/{id}", "GET /customers/{id}/{id}", "different names"),
    ("GET /customers/{id}", "GET /customers/{body}", "different names"),
    ("path.id.type", "path.number.type", "the path has no parameter 'number'"),
    ("query.q.type", "query.id.type", "cannot be a parameter of the query"),
    ('query.q.type = "string"', 'query.q.type = "array"', "no type that a text has"),
    ('query.q.type = "string"', 'query.q.pattern = "("', "not a JSON Schema"),
    ('query.q.type = "string"', 'required = ["x"]', "required names 'x'"),
    ('query.q.type = "string"', "body = {}", "GET takes no body"),
    ('query.q.type = "string"', "unknown = 1", "'unknown' is not known here"),
    ('query.q.type = "string"', "query.q.default = 2020-01-01", "what JSON does not have"),
    ("body = {", "media_types = []\nbody = {", "one kind of body"),
    (PAY, f'[egress.crm.operations.twin]\nrequest = "GET /customers/{{other}}"\n{PAY}', "is what get asks as well"),
    ("X-Key", "Host", "cannot be a header of every request"),
    ("X-Key", "Accept", "cannot be a header of every request"),
    ('"k"', '"{lease-file:a.b}"', "a file is no header"),
    ("[egress.crm]", "[servers.crm]\ncommand = 'x'\n[egress.crm]", "no server has it too"),
    ("[egress.crm]", "[egress.crm]\nnetworks = ['x']", "is no network"),
]


def folder(path: Path, text: str) -> Path:
    (path / "remit.toml").write_text(text)
    return path


def test_what_is_read(tmp_path: Path) -> None:
    configuration = load_configuration(folder(tmp_path, GOOD + '[tools."crm/pay"]\neffect = "irreversible"\n'))
    egress = configuration.egresses["crm"]
    assert (egress.url, egress.networks) == ("https://crm.example/api", ())
    assert egress.operations["pay"].path == ("payments", "")
    assert egress.operations["pay"].content is Content.JSON
    rulebook = make_rulebook(configuration, {})
    assert set(rulebook.pinned) == {"crm/get", "crm/pay"}
    assert rulebook.pinned["crm/get"].input_schema == {
        "type": "object",
        "properties": {"id": {"type": "integer"}, "q": {"type": "string"}},
        "required": ["id"],
        "additionalProperties": False,
    }
    body = rulebook.pinned["crm/pay"].input_schema["properties"]["body"]
    assert body["additionalProperties"] is body["properties"]["lines"]["items"]["additionalProperties"] is False
    assert "crm/get" in rulebook.policies.schema_json


def test_a_base_that_names_an_address_may_lie_there(tmp_path: Path) -> None:
    egress = load_configuration(folder(tmp_path, GOOD.replace("https://crm.example/api/", "http://10.0.0.7:8080"))).egresses["crm"]
    assert egress.networks == (ipaddress.ip_network("10.0.0.7"),)


def test_another_address_is_another_tool(tmp_path: Path) -> None:
    digests = set()
    for text in (
        GOOD,
        GOOD.replace("/api/", "/v2/"),
        GOOD.replace("/payments/", "/payouts/"),
        GOOD.replace("body = {", "form = { a = {} } #"),
    ):
        digests.add(make_rulebook(load_configuration(folder(tmp_path, text)), {}).pinned["crm/pay"].digest)
    assert len(digests) == 4


@pytest.mark.parametrize(("old", "new", "what"), WRONG)
def test_mistakes_say_where_and_what(tmp_path: Path, old: str, new: str, what: str) -> None:
    with pytest.raises(Mistakes) as caught:
        load_configuration(folder(tmp_path, GOOD.replace(old, new, 1)))
    told = str(caught.value)
    assert what in told
    assert "remit.toml" in told
    assert "secret" not in told or "secret" in new
