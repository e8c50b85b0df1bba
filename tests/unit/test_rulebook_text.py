"""A rulebook that was kept comes back as it was: whatever a decision was made from, and nothing that was not named."""

from __future__ import annotations

from dataclasses import fields, replace

import msgspec
import pytest

from remit.errors import Broken
from remit.logic.detectors import Detector
from remit.logic.labelling import FieldRule, ResultRules, Statement
from remit.logic.rulebook import Catalog, CatalogEntry, ServerFacts
from remit.logic.rulebook_text import read_policies, read_rules, rulebook_of, rulebook_text, rules_digest
from remit.model.catalog import Effect, Kind, Sends, Trust
from remit.model.labels import DataClasses
from tests.support import PAY, POLICY, rulebook

ENTRY = CatalogEntry(
    effect=Effect.WRITE,
    data_class="low",
    trust=Trust.TRUSTED,
    sends=Sends.INTERNAL,
    selectors=("to",),
    result=ResultRules(fields=(FieldRule(pattern=("", "a", "*"), states=Statement(data_class="high", trust=Trust.UNTRUSTED)),)),
)
CATALOG = Catalog(
    servers={"bank": ServerFacts(defaults=ENTRY, trust_annotations=True), "mail": ServerFacts()},
    entries={"bank/pay": ENTRY, "mail/*": CatalogEntry()},
    detected={next(iter(Detector)): "high"},
)
RULES = replace(rulebook(), catalog=CATALOG, classes=DataClasses(("low", "high")))


def test_all_of_a_catalog_comes_back():
    """A field that is added to the catalog and not kept is found here: then a decision could not be made again."""
    assert all(getattr(CATALOG, one.name) for one in fields(Catalog) if one.init), "give the new field a value above"
    text = rulebook_text(RULES, 7)
    kept = read_rules(rules_digest(text), text)
    assert (kept.catalog, kept.pinned, kept.classes) == (RULES.catalog, dict(RULES.pinned), RULES.classes)
    assert (kept.policy_set, kept.questions_max) == (RULES.policies.digest, 7)
    again = rulebook_of(kept, {"main.cedar": POLICY})
    assert again.policies.digest == RULES.policies.digest
    assert again.tool(Kind.TOOL, "bank", "pay") == RULES.catalog.facts(Kind.TOOL, "bank", "pay", PAY)


def test_a_text_that_was_not_named_is_refused():
    text = rulebook_text(RULES, 7)
    digest = rules_digest(text)
    with pytest.raises(Broken):
        read_rules(digest, text.replace("low", "LOW"))
    for data in ({"form": "remit-rulebook/2"}, {}, {"form": "remit-rulebook/1"}):
        other = msgspec.json.encode(data).decode()
        with pytest.raises(Broken):
            read_rules(rules_digest(other), other)
    with pytest.raises(Broken):
        read_policies(RULES.policies.digest, '{"main.cedar": "permit (principal, action, resource);"}')
