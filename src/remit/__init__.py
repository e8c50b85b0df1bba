"""remit: runtime authorization for AI agents. An agent acts within its remit, or not at all.

    remit.open(folder)                 a node inside this program
    remit.connect(url, token=…)        the same verbs against a server
    @remit.guard("server/tool")        a function that runs only when the current task may call it
    remit.manifest(model=…, …)         what an agent is made of, bound into its task
    remit.asgi                         middleware and dependency for ASGI applications

Errors: ``remit.errors``; ``Denied``, ``NeedsApproval``, ``Refusal``, ``Mistake`` and ``Outage`` are at hand here.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import os

    from remit.errors import Denied, Mistake, NeedsApproval, Outage, Refusal, RemitError
    from remit.sdk import asgi
    from remit.sdk.client import BlockingRemit, BlockingTask, Remit, Task
    from remit.sdk.guard import guard
    from remit.sdk.manifest import manifest
    from remit.wire import DecisionView

__version__ = "0.1.0"
__all__ = [
    "BlockingRemit",
    "BlockingTask",
    "DecisionView",
    "Denied",
    "Mistake",
    "NeedsApproval",
    "Outage",
    "Refusal",
    "Remit",
    "RemitError",
    "Task",
    "asgi",
    "connect",
    "guard",
    "manifest",
    "open",
]
_ERRORS = ("Denied", "Mistake", "NeedsApproval", "Outage", "Refusal", "RemitError")
_HOMES = {  # loaded when first used: the command line and a server do not need the Python door
    **dict.fromkeys(_ERRORS, "remit.errors"),
    **dict.fromkeys(("BlockingRemit", "BlockingTask", "Remit", "Task"), "remit.sdk.client"),
    "guard": "remit.sdk.guard",
    "manifest": "remit.sdk.manifest",
    "DecisionView": "remit.wire",
}


def open(path: str | os.PathLike[str] = ".") -> Remit:  # remit.open, as one says it
    """A node on a working folder (or its ``remit.toml``) inside this program, open while its block runs.

    ``async with remit.open(…) as r:`` in asynchronous code, ``with remit.open(…) as r:`` in plain code. Raises Mistake, Outage.
    """
    from remit.embedded import embedded
    from remit.sdk.client import Remit

    return Remit(lambda: embedded(path))


def connect(url: str, *, token: Any = None) -> Remit:
    """The same verbs against a server (``remit serve``).

    ``token``: a JWT-SVID, or a function, ``async`` or not, that gives a fresh one; it opens tasks and renews their tokens.
    Where only task tokens are presented (``r.task_of``) it is not needed. Raises Mistake for an address that is none.
    """
    from remit.sdk.client import Remit
    from remit.sdk.remote import connection

    return Remit(lambda: connection(url, token))


def __getattr__(name: str) -> Any:
    """Names that are loaded when they are first used."""
    if name == "asgi":
        return import_module("remit.sdk.asgi")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'remit' has no attribute {name!r}")
