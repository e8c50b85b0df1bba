"""A permit for a described class of reads: one tool, one line of the grant, for some seconds, of one task.

Rules: only where the task type says so (``preauthorized_reads``) and policy permits the class, whatever the arguments. It stands for
nothing but the policy's evaluation: grant, origins, budgets, deadline and record are those of each call. Whatever else happens in the
task voids it (``logic/life.py``), and so does any change of the rules or of the tool (``logic/preauthorization.py``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Permit:
    """``decision``: the one that it leans on, of ``call`` (``kind server/name``) under line ``grant``. ``policies``: those that permitted
    the class. ``rules``: what it was decided by and of what, to be compared.
    """

    decision: str
    call: str
    grant: int
    until: datetime
    policies: tuple[str, ...]
    rules: tuple[str, ...]
