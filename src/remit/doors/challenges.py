"""What whoever shows a DPoP proof that does not do is told to come back with (RFC 9449 §7.1, §9): the same at every door."""

from __future__ import annotations

from typing import TYPE_CHECKING

from remit.logic.dpop import ALGORITHMS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from remit.errors import RemitError

DPOP_CODES = frozenset({"use_dpop_nonce", "invalid_dpop_proof"})
ALGORITHMS_TOLD = f'algs="{" ".join(ALGORITHMS)}"'


def dpop_challenge(error: RemitError, nonce: Callable[[], str], more: Sequence[str] = ()) -> dict[str, str]:
    """Headers of a 401, none where the error is not about a proof. ``more``: further parameters of the challenge."""
    if error.code not in DPOP_CODES:
        return {}
    words = [f'error="{error.code}"', *more, ALGORITHMS_TOLD]
    return {"www-authenticate": f"DPoP {', '.join(words)}", "dpop-nonce": nonce()}
