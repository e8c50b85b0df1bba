"""Every item of the published lists of attacks is pinned by tests that exist, or says why it is none of remit's."""

from __future__ import annotations

from tests.attacks import ATTACKS
from tests.docs.test_promises import ROOT, _tests_of

SECTIONS = {
    "RFC 8725": ("2.1", "2.2", "2.3", "2.7", "3.8", "3.9", "3.10"),
    "RFC 9700": (
        *("2.1", "2.1.1", "2.1.2", "2.2.1", "2.2.2", "2.3", "2.4", "2.5", "2.6"),
        *(f"4.{number}" for number in range(1, 18)),
    ),
    "MCP security best practices": (
        *("Confused deputy", "Token passthrough", "SSRF", "Session hijacking", "Local server compromise"),
        *("Scoped receipts", "Scope minimization"),
    ),
}


def test_every_item_has_tests_that_exist_or_a_reason():
    for attack in ATTACKS:
        where = (attack.document, attack.section, attack.says)
        assert bool(attack.tests) != bool(attack.why_not), where
        assert len(attack.why_not) > 30 or not attack.why_not, where
        assert "test_" not in attack.why_not, where
        for name in attack.tests:
            path, _, test = name.partition("::")
            assert test in _tests_of(ROOT / path), (*where, name)


def test_every_section_of_each_list_is_there():
    for document, sections in SECTIONS.items():
        mine = [part for attack in ATTACKS if attack.document == document for part in attack.section.split(", ")]
        for section in sections:
            assert any(part == section or part.startswith(section + ".") for part in mine), (document, section)
    assert {attack.document for attack in ATTACKS} == set(SECTIONS)
    items = [(attack.document, attack.section, attack.says) for attack in ATTACKS]
    assert len(items) == len(set(items))
