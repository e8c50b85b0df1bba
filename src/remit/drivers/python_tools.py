"""Tools that Python programs declare: what the guarded functions and route tables of their modules say of themselves.

Rules: importing runs a module, so only ``remit pin`` does, for the person who calls it. A declaration is found by the attribute
``__remit_tools__`` (``sdk/declaration.py`` writes it) on what a module, or a class in it, holds; there is no registry.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from typing import TYPE_CHECKING, Any

from remit.errors import Mistake, RemitError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from remit.drivers.base import PythonServer

DECLARES = "__remit_tools__"


def declared_tools(server: PythonServer) -> list[dict[str, Any]]:
    """All tools of a python server as its modules declare them now. Raises Mistake: a module that cannot be imported, two that differ."""
    found: dict[str, dict[str, Any]] = {}
    for name in server.modules:
        module = _imported(server, name)
        for tool, declared in _declarations(vars(module).values()):
            owner, _, short = tool.partition("/")
            if owner != server.name:
                continue
            if found.setdefault(short, declared) != declared:
                raise Mistake(f"{tool} is declared twice, and not alike (module {name})", code="pins", hint="one name for one function")
    if not found:
        hint = f'@remit.guard("{server.name}/NAME") on a function of these modules'
        raise Mistake(f"server {server.name}: nothing in {', '.join(server.modules)} declares a tool of it", code="pins", hint=hint)
    return [found[name] for name in sorted(found)]


def _imported(server: PythonServer, name: str) -> Any:
    sys.path.insert(0, server.folder)
    try:
        return importlib.import_module(name)
    except RemitError as error:
        raise Mistake(f"module {name} of server {server.name}: {error.message}", code="pins", hint=error.hint) from None
    except (Exception, SystemExit) as error:  # whatever the module does while it is imported
        what = f"{type(error).__name__}: {error}"[:300]
        hint = f"it must be importable from {server.folder}"
        raise Mistake(f"module {name} of server {server.name} cannot be imported: {what}", code="pins", hint=hint) from None
    finally:
        sys.path.remove(server.folder)


def _declarations(values: Iterable[object]) -> Iterable[tuple[str, dict[str, Any]]]:
    for value in list(values):
        if isinstance(value, type):
            yield from _declarations(value.__dict__.values())
            continue
        value = value.__func__ if isinstance(value, staticmethod | classmethod) else value
        declared = inspect.getattr_static(value, DECLARES, ())  # static: a module may hold proxies that answer to every name
        if isinstance(declared, tuple):
            yield from declared
