"""Which agent a process is: kernel facts against the selectors of ``[agents.NAME.attest]``.

Rules: all selectors that are given must match, and none given match nothing. One process is one agent: selectors of two agents that
one process could satisfy are a mistake of the configuration (``overlap``), so who acts is never a matter of choice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from remit.model.attestation import Process, Selectors

if TYPE_CHECKING:
    from collections.abc import Mapping

_EXACT = ("uid", "gid", "path", "sha256")


def matches(selectors: Selectors, process: Process, agent: str) -> bool:
    """Whether the process is this agent, by its declared name."""
    if not selectors.names_somebody or (selectors.run and (process.run is None or process.run.agent != agent)):
        return False
    return all(not _given(selectors, name) or getattr(selectors, name) == getattr(process, name) for name in _EXACT)


def attested(agents: Mapping[str, Selectors], process: Process) -> str | None:
    """The declared agent that a process is; ``None`` where it is none, or cannot be told to be one."""
    found = [name for name, selectors in agents.items() if matches(selectors, process, name)]
    return found[0] if len(found) == 1 else None


def overlap(one: Selectors, other: Selectors) -> bool:
    """Whether some process could be both agents. Two that demand ``run`` never overlap: a run is one agent's."""
    if not one.names_somebody or not other.names_somebody or (one.run and other.run):
        return False
    return not any(_given(one, name) and _given(other, name) and getattr(one, name) != getattr(other, name) for name in _EXACT)


def wants_digest(agents: Mapping[str, Selectors]) -> bool:
    """Whether any selector needs the digest of an executable."""
    return any(selectors.sha256 for selectors in agents.values())


def told(process: Process) -> str:
    """What is known of a process, in one line for the ledger."""
    run = f" run={process.run.agent} task={process.run.task}" if process.run else ""
    path = f" path={process.path[:512]}" if process.path else ""
    digest = f" sha256={process.sha256}" if process.sha256 else ""
    return f"process pid={process.pid} uid={process.uid} gid={process.gid}{path}{digest}{run}"


def _given(selectors: Selectors, name: str) -> bool:
    return getattr(selectors, name) not in {None, ""}
