"""Reads ``[spiffe]`` and ``[agents.NAME.attest]`` of ``remit.toml``: the Workload API's socket, and which processes are which agents.

Rules: nothing matches by default. A rule that only names a program is a mistake, because any account can start it; so are rules of
two agents that one process could satisfy, because then nobody could say who acts.
"""

from __future__ import annotations

import itertools
import os.path
import re
from datetime import timedelta
from typing import TYPE_CHECKING

from remit.logic.attestation import overlap
from remit.logic.x509_svid import LIVES_OF_SVID_MIN
from remit.model.attestation import ProcessRule
from remit.settings import WorkloadSettings

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from remit.services.reading import Reader
    from remit.settings import Agent

_MODES = {"0600": 0o600, "0660": 0o660, "0666": 0o666}
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_ID_MAX = 2**32 - 2  # the last one means nobody
_AUTHORITY_TTL_MAX = timedelta(days=90)


def read_workload_settings(root: Reader, folder: Path, svid_ttl: timedelta) -> WorkloadSettings:
    """``[spiffe]``; what is wrong is noted."""
    table, defaults = root.table("spiffe"), WorkloadSettings()
    text = table.value("socket", str, "")
    mode = table.value("socket_mode", str, "0600")
    if mode not in _MODES:
        table.wrong(f"socket_mode = {mode[:20]!r}", f"one of {', '.join(_MODES)}", "socket_mode")
    authority_ttl = table.duration("authority_ttl", defaults.authority_ttl, _AUTHORITY_TTL_MAX)
    if authority_ttl < svid_ttl * LIVES_OF_SVID_MIN:
        table.wrong(
            f"authority_ttl = {authority_ttl} is too short for SVIDs of {svid_ttl}",
            f"at least {LIVES_OF_SVID_MIN} times trust.svid_ttl, so that verifiers can follow",
            "authority_ttl",
        )
    table.done()
    return WorkloadSettings(
        socket=folder / text if text else None, socket_mode=_MODES.get(mode, defaults.socket_mode), authority_ttl=authority_ttl
    )


def read_process_rule(agent: Reader) -> ProcessRule:
    """``attest`` of an agent; what is wrong is noted."""
    table = agent.table("attest")
    path, sha256 = table.value("path", str, ""), table.value("sha256", str, "")
    if path and (not path.startswith("/") or os.path.normpath(path) != path or "\0" in path):
        table.wrong(f"path = {path[:80]!r}", "the whole path of the executable, without '.', '..' or double '/'", "path")
    if sha256 and not _SHA256.match(sha256):
        table.wrong("sha256 is no digest", "64 lower-case hexadecimal digits, as sha256sum prints them", "sha256")
    rule = ProcessRule(
        uid=_account(table, "uid"), gid=_account(table, "gid"), path=path, sha256=sha256, run=table.value("run", bool, default=False)
    )
    if table.data and not rule.names_somebody:
        table.wrong(
            "says nothing of who runs the program", "uid, gid or run = true; path and sha256 say which program it is, not whose process"
        )
    table.done()
    return rule


def check_ambiguity(root: Reader, agents: Mapping[str, Agent]) -> None:
    """Note rules of two agents that one process could satisfy."""
    for one, other in itertools.combinations(agents.values(), 2):
        if overlap(one.attest, other.attest):
            root.wrong(
                f"one process could be both {one.name} and {other.name}",
                "give both the same key (uid, gid, path or sha256) with different values",
                "agents",
                other.name,
                "attest",
            )


def _account(table: Reader, key: str) -> int | None:
    if key not in table.data:
        return None
    value = table.value(key, int, -1)
    if not 0 <= value <= _ID_MAX:
        table.wrong(f"{key} must be the number of an account or group", f"`id` prints it, as in {key} = 1001", key)
        return _ID_MAX + 1  # nobody's
    return value
