"""What the detectors find, and what they leave."""

from __future__ import annotations

import pytest

from remit.logic.detectors import TEXT_CHARACTERS_MAX, Detector, detected
from remit.logic.labelling import ResultRules, found_in
from remit.model.labels import Labels
from tests.support import CLASSES

BOTH = tuple(Detector)
AWS = "AKIA" + "Z7VRSQ5TJN2XLPQW"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("write to ann@corp.example today", {"personal"}),
        ("IBAN DE89 3704 0044 0532 0130 00", {"personal"}),
        ("IBAN DE88 3704 0044 0532 0130 00", set()),
        ("card 4111 1111 1111 1111", {"personal"}),
        ("order 4111 1111 1111 1112", set()),
        ("call +49 30 901820 please", {"personal"}),
        ("ssn 536-90-4399", {"personal"}),
        (f"key {AWS}", {"credentials"}),
        ("-----BEGIN RSA " + "PRIVATE KEY-----", {"credentials"}),
        ("https://ann:" + "hunter22@db.example/x", {"credentials", "personal"}),
        ("nothing of the kind, 12 apples and 2 pears", set()),
    ],
)
def test_what_a_text_holds(text, found):
    assert detected(text, BOTH) == found


def test_only_what_is_asked_for_and_what_is_too_long_counts_as_found():
    assert detected("ann@corp.example", (Detector.CREDENTIALS,)) == set()
    assert detected("x" * (TEXT_CHARACTERS_MAX + 1), BOTH) == set(BOTH)


def test_a_finding_raises_the_class_that_the_configuration_names():
    rules = ResultRules(detect=((Detector.PERSONAL, "confidential"), (Detector.CREDENTIALS, "restricted")))
    assert found_in("ann@corp.example", rules, CLASSES) == Labels(2)
    assert found_in(f"ann@corp.example {AWS}", rules, CLASSES) == Labels(3)
    assert found_in(7, rules, CLASSES) == Labels()
    assert found_in("ann@corp.example", ResultRules(), CLASSES) == Labels()
