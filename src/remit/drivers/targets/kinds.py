"""All kinds of targets that ``[targets.NAME] kind`` may name. A new one is a file beside this and a line here.

A kind's file, and with it the client library of its system, is loaded when it is looked up: most installations have one or two of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING

from remit.drivers.targets.base import TargetKind

if TYPE_CHECKING:
    from collections.abc import Iterator

_NAMES = (
    "aws",
    "github",
    "kubernetes",
    "mariadb",
    "nats",
    "oauth",
    "postgresql",
    "rabbitmq",
    "redis",
    "ssh",
    "static",
    "x509",
)


class _Kinds(Mapping[str, TargetKind]):
    """Kinds by name: the file ``NAME.py`` beside this one, which calls its kind ``NAME`` in capitals."""

    def __getitem__(self, name: str) -> TargetKind:
        if name not in _NAMES:
            raise KeyError(name)
        kind = getattr(import_module(f"remit.drivers.targets.{name}"), name.upper())
        assert isinstance(kind, TargetKind)
        return kind

    def __iter__(self) -> Iterator[str]:
        return iter(_NAMES)

    def __len__(self) -> int:
        return len(_NAMES)


TARGET_KINDS: Mapping[str, TargetKind] = _Kinds()
