"""The words spoken over HTTP, as strict structs shared by the API and whoever calls it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec


class OpenTask(msgspec.Struct, forbid_unknown_fields=True):
    """What an agent says to open a task."""

    type: str
    inputs: dict[str, Any] = {}
    on_behalf_of: str = ""


class TokenView(msgspec.Struct):
    """A task token (RFC 6749 §5.1 words)."""

    access_token: str
    expires_at: datetime
    token_type: str = "Bearer"  # noqa: S105 - the type's name


class TaskView(msgspec.Struct, omit_defaults=True):
    """A task as its agent sees it. ``mcp``: the gateway's address for each server of the grant."""

    task: str
    type: str
    agent: str
    on_behalf_of: str
    objective: str
    state: str
    deadline: datetime
    calls_allowed: int
    calls_asked: int
    calls_denied: int
    budget_calls: int
    mcp: dict[str, str]
    token: TokenView | None = None
