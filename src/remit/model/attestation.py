"""What the kernel says of a process, and what an agent's process must be like.

Rules: what could not be read is empty, and empty meets no demand. What a rule does not name it does not demand, but a rule that says
nothing of who runs the program names no agent at all (``ProcessRule.names_somebody``). Left out: how a process is looked at
(``drivers/processes.py``), what matches (``logic/attestation.py``).

SPIFFE calls these selectors; here a selector is an argument of a call.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What ``remit run`` started processes for: an agent by its declared name, and a task."""

    agent: str
    task: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A process as it was looked at. ``uid``, ``gid``: of the moment it connected. ``path``: its executable, ``sha256`` its digest in
    hexadecimal. ``run``: the run that it, or an ancestor, is the process of.
    """

    uid: int
    gid: int
    pid: int
    path: str = ""
    sha256: str = ""
    run: Run | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessRule:
    """What must all hold of a process for it to be an agent. ``run``: ``remit run`` started it for that agent; otherwise no run did."""

    uid: int | None = None
    gid: int | None = None
    path: str = ""
    sha256: str = ""
    run: bool = False

    @property
    def names_somebody(self) -> bool:
        """Whether it says who runs the program: a path or a digest alone is any account's that can start it."""
        return self.uid is not None or self.gid is not None or self.run
