"""Which agent a process is: kernel facts against ``[agents.NAME.attest]``.

Rules: all that a rule demands must hold, and a rule that demands nothing matches nothing. One process is one agent: rules of two agents
that one process could satisfy are a mistake of the configuration (``overlap``), so who acts is never a matter of choice.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

from remit.model.attestation import Process, ProcessRule

if TYPE_CHECKING:
    from collections.abc import Mapping

_EXACT = ("uid", "gid", "path", "sha256")


def matches(rule: ProcessRule, process: Process, agent: str) -> bool:
    """Whether the process is this agent, by its declared name. What a run started is the run's agent or nobody."""
    if not rule.names_somebody or rule.run != (process.run is not None) or (process.run is not None and process.run.agent != agent):
        return False
    return all(not _given(rule, name) or getattr(rule, name) == getattr(process, name) for name in _EXACT)


def attested(agents: Mapping[str, ProcessRule], process: Process) -> str | None:
    """The declared agent that a process is; ``None`` where it is none, or cannot be told to be one."""
    found = [name for name, rule in agents.items() if matches(rule, process, name)]
    return found[0] if len(found) == 1 else None


def overlap(one: ProcessRule, other: ProcessRule) -> bool:
    """Whether some process could be both agents. With ``run`` none can: a run is one agent's, and its processes nobody else."""
    if not one.names_somebody or not other.names_somebody or one.run or other.run:
        return False
    return not any(_given(one, name) and _given(other, name) and getattr(one, name) != getattr(other, name) for name in _EXACT)


def wants_digest(agents: Mapping[str, ProcessRule], process: Process) -> bool:
    """Whether only the digest of its executable is missing for a process to be an agent. Strangers make nobody read large files."""
    return any(rule.sha256 and matches(replace(rule, sha256=""), process, name) for name, rule in agents.items())


def told(process: Process) -> str:
    """What is known of a process, in one line for the ledger."""
    run = f" run={process.run.agent} task={process.run.task}" if process.run else ""
    path = f" path={json.dumps(process.path[:512])}" if process.path else ""  # quoted: it may look like the rest of this line
    digest = f" sha256={process.sha256}" if process.sha256 else ""
    return f"process pid={process.pid} uid={process.uid} gid={process.gid}{path}{digest}{run}"


def _given(rule: ProcessRule, name: str) -> bool:
    return getattr(rule, name) not in {None, ""}
