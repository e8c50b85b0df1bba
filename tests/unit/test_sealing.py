"""Kept values: opened by their own key under their own name, and by nothing else."""

from __future__ import annotations

import pytest

from remit.drivers.value_sealing import ValueSealer
from remit.errors import Broken

SEALER = ValueSealer(b"k" * 32)


def test_a_value_opens_under_its_own_name_and_key_only():
    sealed = SEALER.seal("d_1", b"secret words")
    assert SEALER.open("d_1", sealed) == b"secret words"
    assert b"secret" not in sealed
    assert SEALER.seal("d_1", b"secret words") != sealed
    for name, sealer in (("d_2", SEALER), ("d_1", ValueSealer(b"x" * 32))):
        with pytest.raises(Broken):
            sealer.open(name, sealed)


def test_a_damaged_value_is_never_an_empty_one():
    sealed = SEALER.seal("d_1", b"")
    for damaged in (b"", sealed[:1], sealed[:12], sealed[:-1], b"\x02" + sealed[1:], sealed[:-1] + bytes([sealed[-1] ^ 1])):
        with pytest.raises(Broken):
            SEALER.open("d_1", damaged)
