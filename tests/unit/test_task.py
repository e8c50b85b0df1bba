"""A task and what a record makes of it."""

from __future__ import annotations

import pytest
from msgspec.structs import asdict

from remit.model.task import TaskState, amended
from tests.support import grant, task


def test_an_amended_task_differs_in_what_was_changed_alone_and_leaves_the_other_as_it_was():
    before = task(grant(uses=1))
    said = asdict(before)
    after = amended(before, seq=7, leaf=b"x", state=TaskState.SUSPENDED)
    assert asdict(after) == {**said, "seq": 7, "leaf": b"x", "state": TaskState.SUSPENDED}
    assert asdict(before) == said


def test_what_is_no_field_is_not_amended():
    with pytest.raises(TypeError):
        amended(task(), stat=TaskState.ACTIVE)


def test_a_task_is_not_changed_in_place():
    with pytest.raises(AttributeError):
        task().seq = 7
