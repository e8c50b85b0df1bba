"""``remit.manifest``: what an agent is made of, as digests by part, for ``r.task(…, manifest=…)`` and ``task.manifest(…)``.

Rules: digests are taken here, so that no prompt leaves the program. A text is taken as UTF-8, a path as the file's bytes, a tool
as it would be pinned (``name``, ``description``, ``inputSchema``, ``annotations``).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from remit.errors import Mistake
from remit.wire import part_digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    Taken = str | bytes | Path


def manifest(
    *,
    model: Taken = "",
    system_prompt: Taken = "",
    tools: Iterable[Mapping[str, Any]] = (),
    data_sources: Mapping[str, Taken] | None = None,
    files: Iterable[str | Path] = (),
) -> dict[str, str]:
    """Digests by part. ``tools``: those that the agent offers its model. ``data_sources``: by name. ``files``: paths, each a part.

    Raises Mistake for a file that cannot be read, and for a tool without a name.
    """
    parts = {name: _digest(name, value) for name, value in (("model", model), ("system_prompt", system_prompt)) if value}
    for tool in tools:
        if not isinstance(tool.get("name"), str):
            raise Mistake("a tool of the manifest has no name", code="manifest")
        parts[f"tools/{tool['name']}"] = part_digest(dict(tool))
    parts |= {f"data_sources/{name}": _digest(name, value) for name, value in (data_sources or {}).items()}
    return parts | {f"files/{path}": _digest(str(path), Path(path)) for path in files}


def _digest(name: str, value: Taken) -> str:
    if not isinstance(value, Path):
        return part_digest(value.encode() if isinstance(value, str) else value)
    try:
        return part_digest(value.read_bytes())
    except OSError as error:
        raise Mistake(f"the file of part {name[:80]!r} cannot be read: {error.strerror}", code="manifest") from None
