"""Reads ``[tokens]`` of ``remit.toml``, and the public keys by which agents authenticate (``[[agents.NAME.keys]]``).

Rules: as ``services/configuration.py``. Only public keys may stand in the folder; two keys of one agent have different names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from remit.drivers.assertions import public_key
from remit.errors import Mistake
from remit.model.token import Bound, TokenRules

if TYPE_CHECKING:
    from remit.services.reading import Reader

_KEYS_MAX = 16
_DAYS_MAX = 3_650


def read_tokens(root: Reader) -> TokenRules:
    """``[tokens]``."""
    table, defaults = root.table("tokens"), TokenRules()
    rules = TokenRules(
        bound=table.choice("bound", Bound) or defaults.bound,
        endpoint_audience=table.value("endpoint_audience", bool, defaults.endpoint_audience),
        mission=table.value("mission", bool, defaults.mission),
        status_list=table.value("status_list", bool, defaults.status_list),
        rotate_days=table.number("rotate_days", 1, _DAYS_MAX) if "rotate_days" in table.data else defaults.rotate_days,
    )
    table.done()
    return rules


def read_keys(agent: Reader) -> tuple[dict[str, Any], ...]:
    """Public keys of an agent, as JSON Web Keys (RFC 7517)."""
    keys: list[dict[str, Any]] = []
    for table in agent.each("keys"):
        jwk = dict(table.data)
        try:
            public_key(jwk)
        except Mistake as mistake:
            table.wrong(mistake.message, mistake.hint)
            continue
        keys.append(jwk)
    names = [key.get("kid") for key in keys]
    if len(keys) > 1 and (None in names or len(set(names)) != len(names)):
        agent.wrong("of several keys each needs a kid of its own", "", "keys")
    if len(keys) > _KEYS_MAX:
        agent.wrong(f"more than {_KEYS_MAX} keys", "remove those that nobody signs with any more", "keys")
    return tuple(keys)


def read_default_task(agent: Reader, tasks: tuple[str, ...]) -> str:
    """The type of the task that a token of the agent is for where its client cannot name one."""
    default = agent.value("default_task", str, "")
    if default and default not in tasks:
        agent.wrong(f"default_task = {default[:80]!r} is none of its tasks", f"one of: {', '.join(tasks) or 'none'}", "default_task")
    return default
