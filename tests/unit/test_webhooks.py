"""Signatures as Standard Webhooks has them, and sealed texts that open for nothing else."""

from __future__ import annotations

import base64

import pytest

from remit.drivers.sealing import Sealer
from remit.drivers.webhooks import signature
from remit.errors import Unauthenticated


def test_the_published_example_is_signed_the_same():
    """The example of the Standard Webhooks libraries (secret, id, timestamp, body and expected signature)."""
    key = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    signed = signature(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_what_is_sealed_opens_for_its_purpose_alone():
    sealer = Sealer(b"k" * 32)
    sealed = sealer.seal(b"text", "one")
    assert sealer.open(sealed, "one") == b"text"
    assert sealer.seal(b"text", "one") != sealed
    for wrong, purpose in ((sealed, "two"), (sealed[:-2], "one"), ("", "one"), ("é", "one"), ("A" * 40, "one"), (sealed + "A", "one")):
        with pytest.raises(Unauthenticated):
            sealer.open(wrong, purpose)
    with pytest.raises(Unauthenticated):
        Sealer(b"x" * 32).open(sealed, "one")
