"""A task and what a record makes of it."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from remit.model.task import Task, TaskState, amended
from tests.support import grant, task


def test_an_amended_task_is_what_replace_makes_and_leaves_the_other_as_it_was():
    before = task(grant(uses=1))
    kept = replace(before)
    after = amended(before, seq=7, leaf=b"x", state=TaskState.SUSPENDED)
    assert after == replace(before, seq=7, leaf=b"x", state=TaskState.SUSPENDED)
    assert before == kept
    assert all(hasattr(after, one.name) for one in fields(Task))


def test_what_is_no_field_is_not_amended():
    with pytest.raises(KeyError):
        amended(task(), stat=TaskState.ACTIVE)
