"""How far a call is from what its task is for: the tool against the objective, as directions that a small model gives. Pure.

Rules: of a call only the tool counts, by its name and by its description as it was pinned. Its arguments are the agent's own words: a
hijacked agent would put the objective among them. Beyond the bounds a text is cut. What could not be measured counts as far, and says so.
Left out: the model itself (``drivers/sentence_model.py``).
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from remit.model.behaviour import Signal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from remit.model.call import Call
    from remit.model.catalog import PinnedTool

OBJECTIVE_CHARACTERS_MAX, DESCRIPTION_CHARACTERS_MAX = 1_000, 300
_JOINTS = re.compile(r"[_\-./]+|(?<=[a-z])(?=[A-Z])")
UNMEASURED = (Signal.FAR_FROM_OBJECTIVE, Signal.OBJECTIVE_UNMEASURED)


def spoken(call: Call, pinned: PinnedTool | None) -> str:
    """A call's tool in words: ``send_money`` of a bank is "send money. Sends a transaction …"."""
    name = _JOINTS.sub(" ", call.name).strip()
    description = pinned.description if pinned else ""
    return f"{name}. {description[:DESCRIPTION_CHARACTERS_MAX]}"


def signals_of_distance(objective: Sequence[float], tool: Sequence[float], similar_min: float) -> tuple[Signal, ...]:
    """``far_from_objective`` where the cosine of two directions is below ``similar_min``. A direction that is none counts as unmeasured."""
    lengths = math.hypot(*objective) * math.hypot(*tool)
    if len(objective) != len(tool) or not lengths or not math.isfinite(lengths):
        return UNMEASURED
    cosine = sum(one * other for one, other in zip(objective, tool, strict=True)) / lengths
    return () if cosine >= similar_min else (Signal.FAR_FROM_OBJECTIVE,)
