"""SQL lives in ``.sql`` files, each query with a name and a sentence of purpose; this reads them."""

from __future__ import annotations

from importlib.resources import files


def queries(engine: str) -> dict[str, str]:
    """Name → statement of ``queries/<engine>.sql``."""
    text = (files("remit.store") / "queries" / f"{engine}.sql").read_text(encoding="utf-8")
    found = {}
    for block in text.split("-- name: ")[1:]:
        name, _, statement = block.partition("\n")
        lines = [line for line in statement.splitlines() if not line.startswith("--")]
        found[name.strip()] = "\n".join(lines).strip().rstrip(";")
    return found


def migrations(engine: str) -> list[tuple[int, str]]:
    """Version and script of each migration of an engine, in order. Migrations only add."""
    folder = files("remit.store") / "migrations"
    found = []
    for item in folder.iterdir():
        if item.name.startswith(f"{engine}_") and item.name.endswith(".sql"):
            version = int(item.name.removeprefix(f"{engine}_").removesuffix(".sql"))
            found.append((version, item.read_text(encoding="utf-8")))
    return sorted(found)
