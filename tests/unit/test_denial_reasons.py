"""Every reason of ours has a word of the closed set, or permits."""

from __future__ import annotations

import pytest

from remit.logic.denial_reasons import CLOSED_SET, DENIAL_REASONS, denial_reason
from remit.model.decision import Code, Reason

PERMITS = {Code.PERMITTED, Code.PREAPPROVED, Code.PREAUTHORIZED, Code.APPROVED}


@pytest.mark.parametrize("code", list(Code))
def test_every_code_is_mapped(code):
    word = DENIAL_REASONS[code]
    assert (word == "") if code in PERMITS else (word in CLOSED_SET)


def test_the_first_reason_speaks():
    reasons = (Reason(Code.TASK_EXPIRED, ""), Reason(Code.NOT_GRANTED, ""))
    assert denial_reason(reasons) == "mission_inactive"
    assert denial_reason(()) == "out_of_authority"
